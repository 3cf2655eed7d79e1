//! Charts as SVG: bars and dots along a logarithmic axis, with the least and the greatest as whiskers.

use std::fmt::Write;

use crate::stats::{Spread, shown};

/// One value of a group.
pub struct Mark {
    /// Which of the chart's series it is of.
    pub series: usize,
    pub spread: Spread,
}

/// What is shown side by side, and its label.
pub struct Group {
    pub label: String,
    pub marks: Vec<Mark>,
}

/// A chart with one row for each mark.
pub struct Chart {
    pub title: String,
    /// What the axis counts.
    pub axis: String,
    pub series: Vec<String>,
    pub groups: Vec<Group>,
    /// A line at this value, as the floor or a target.
    pub line_at: Option<f64>,
    /// Dots at the values rather than bars from the left edge to them.
    pub dots: bool,
}

impl Chart {
    /// The chart as one file; `None` if there is nothing to show.
    pub fn draw(&self) -> Option<String> {
        let marks = || self.groups.iter().flat_map(|group| &group.marks);
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let values = || marks().flat_map(|m| [m.spread.min, m.spread.max]).filter(|v| positive(*v));
        let least = values().chain(self.line_at).reduce(f64::min)?;
        let most = values().chain(self.line_at).reduce(f64::max)?;
        let axis = Axis::new(least, most);
        let rows = marks().count();
        let height = TOP + rows as f64 * ROW + self.groups.len() as f64 * GAP + BOTTOM;
        let mut out = Svg { text: String::new() };
        out.open(height, &self.title);
        self.draw_legend(&mut out);
        self.draw_axis(&mut out, &axis, height);
        let mut y = TOP;
        for group in &self.groups {
            let middle = y + group.marks.len() as f64 * ROW / 2.0 + 4.0;
            out.label(LEFT - 8.0, middle, "end", &group.label);
            for mark in &group.marks {
                self.draw_mark(&mut out, &axis, mark, y);
                y += ROW;
            }
            y += GAP;
        }
        out.put("</svg>\n");
        Some(out.text)
    }

    fn draw_legend(&self, out: &mut Svg) {
        let mut x = LEFT;
        for (number, name) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            out.rect(x, 32.0, 10.0, 10.0, colour);
            out.label(x + 14.0, 41.0, "start", name);
            x += 26.0 + name.chars().count() as f64 * 6.6;
        }
    }

    fn draw_axis(&self, out: &mut Svg, axis: &Axis, height: f64) {
        let bottom = height - BOTTOM;
        for tick in axis.ticks() {
            let x = axis.at(tick);
            out.line((x, TOP - 4.0), (x, bottom), "#dddddd", 1.0);
            out.label(x, bottom + 14.0, "middle", &format!("{tick}"));
        }
        if let Some(value) = self.line_at {
            let x = axis.at(value);
            out.line((x, TOP - 4.0), (x, bottom), "#444444", 1.5);
        }
        out.label(LEFT, bottom + 32.0, "start", &self.axis);
    }

    fn draw_mark(&self, out: &mut Svg, axis: &Axis, mark: &Mark, y: f64) {
        let Spread { median, min, max } = mark.spread;
        let colour = COLOURS[mark.series % COLOURS.len()];
        let (x, middle) = (axis.at(median), y + ROW / 2.0);
        if self.dots {
            out.dot(x, middle, colour);
        } else {
            out.rect(LEFT, y + 1.0, x - LEFT, ROW - 2.0, colour);
        }
        if min < max {
            out.line((axis.at(min), middle), (axis.at(max), middle), "#222222", 1.0);
        }
        out.label(axis.at(max) + 8.0, middle + 4.0, "start", &shown(median));
    }
}

/// A logarithmic axis from a whole 1, 2 or 5 to another.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn new(least: f64, most: f64) -> Axis {
        let from = round_ticks(least).rev().find(|tick| *tick <= least).unwrap_or(least);
        let to = round_ticks(most).find(|tick| *tick > most).unwrap_or(most * 2.0);
        Axis { from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(self.from) / self.from).ln() / (self.to / self.from).ln();
        LEFT + part.min(1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        round_ticks(self.from)
            .chain(round_ticks(self.from * 1e3))
            .filter(|tick| (self.from..=self.to).contains(tick))
    }
}

/// 1, 2 and 5 times powers of ten around a value: the decade below its own, its own, and the next.
fn round_ticks(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    let decade = value.log10().floor() as i32;
    (decade - 1..=decade + 1).flat_map(|power| {
        [1, 2, 5].into_iter().map(move |digit| {
            // by the decimal text, so that 0.2 is 0.2
            format!("{digit}e{power}").parse().unwrap_or(f64::NAN)
        })
    })
}

struct Svg {
    text: String,
}

impl Svg {
    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn open(&mut self, height: f64, title: &str) {
        let title = escape(title);
        write!(
            self.text,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n"
        )
        .expect(STRING);
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, colour: &str) {
        let width = width.max(0.0);
        writeln!(
            self.text,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{colour}\"/>"
        )
        .expect(STRING);
    }

    fn dot(&mut self, x: f64, y: f64, colour: &str) {
        writeln!(self.text, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"/>")
            .expect(STRING);
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        writeln!(
            self.text,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"/>",
            from.0, from.1, to.0, to.1
        )
        .expect(STRING);
    }

    fn label(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(text);
        writeln!(
            self.text,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        )
        .expect(STRING);
    }
}

/// Text as XML has it, in elements and attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 230.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 44.0;
const ROW: f64 = 14.0;
/// Between two groups.
const GAP: f64 = 10.0;
/// Apart from each other for people who see few colours too (Okabe and Ito, 2008).
const COLOURS: [&str; 7] =
    ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888"];
const STRING: &str = "a String takes all that is written";

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(label: &str, marks: Vec<Mark>) -> Chart {
        let groups = vec![Group { label: label.into(), marks }];
        let (title, axis) = ("a < b & \"c\"".into(), "× floor".into());
        Chart { title, axis, series: vec!["s".into()], groups, line_at: Some(1.0), dots: false }
    }

    fn mark(median: f64, min: f64, max: f64) -> Mark {
        Mark { series: 0, spread: Spread { median, min, max } }
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escape("a<b>&\"c\"\n"), "a&lt;b&gt;&amp;&quot;c&quot; ");
        let svg = chart("<script>", vec![mark(2.0, 1.0, 3.0)]).draw().unwrap();
        assert!(svg.contains("<title>a &lt; b &amp; &quot;c&quot;</title>"));
        assert!(svg.contains(">&lt;script&gt;</text>"));
        assert!(!svg.contains("<script>"));
    }

    #[test]
    fn a_chart_without_values_is_none() {
        let mut empty = chart("x", Vec::new());
        empty.line_at = None;
        assert!(empty.draw().is_none());
    }

    #[test]
    fn greater_values_lie_further_right_and_all_within_the_chart() {
        let axis = Axis::new(0.9, 80.0);
        assert_eq!((axis.from, axis.to), (0.5, 100.0));
        let places: Vec<f64> = [0.0, 0.9, 1.0, 10.0, 80.0, 1e9].map(|v| axis.at(v)).to_vec();
        assert!(places.is_sorted());
        assert!(places.iter().all(|x| (LEFT..=WIDTH - RIGHT).contains(x)));
        assert!(axis.ticks().eq([0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]));
    }
}
