//! `fastport status`.

use std::io::{self, Write};

use serde_json::Value;

use super::arguments::{Common, Status};
use super::exit::{Failure, Outcome};
use super::link::{self, connect};

pub(super) async fn run(status: &Status, common: Common) -> Outcome {
    let options = link::options(&common)?;
    let url = options.target.to_string();
    let client = connect(options).await?;
    let text = client.status().await.map_err(|error| Failure::request(&url, "status", &error))?;
    // nothing was published
    client.close().await.unwrap_or_default();
    let shown = if status.json {
        format!("{text}\n")
    } else {
        let figures = serde_json::from_str(&text)
            .map_err(|error| Failure::data(format!("{url}: status is no JSON: {error}")))?;
        table(&figures)
    };
    let mut out = io::stdout();
    out.write_all(shown.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::output(&error))
}

/// A line for each figure: its name, with those of what it belongs to, and its value.
fn table(figures: &Value) -> String {
    let mut rows = Vec::new();
    flatten(figures, String::new(), &mut rows);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(name, value)| format!("{name:<width$}  {value}\n")).collect()
}

fn flatten(value: &Value, name: String, rows: &mut Vec<(String, String)>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => {
            // simple figures first: what belongs together stays together
            let (deep, flat): (Vec<_>, Vec<_>) =
                fields.iter().partition(|(_, value)| value.is_object() || value.is_array());
            for (key, value) in flat.into_iter().chain(deep) {
                flatten(value, below(key), rows);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                flatten(item, below(&at.to_string()), rows);
            }
        }
        Value::String(text) => rows.push((name, text.clone())),
        other => rows.push((name, other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_has_a_line_with_its_whole_name() {
        let figures = serde_json::json!({
            "memory": { "used": 5, "limit": 16 },
            "version": "1.2",
            "peers": 12,
            "sessions": [{ "name": "demo" }],
        });
        let expected = "peers            12\n\
                        version          1.2\n\
                        memory.limit     16\n\
                        memory.used      5\n\
                        sessions.0.name  demo\n";
        assert_eq!(table(&figures), expected);
    }
}
