//! `fastport completions` and `fastport man`.

use std::fs;
use std::io::{self, Write};

use clap::CommandFactory;

use super::arguments::{Arguments, Completions, Man};
use super::exit::{Failure, Outcome};

pub(super) fn completions(completions: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(completions.shell, &mut Arguments::command(), "fastport", &mut text);
    print(&text)
}

pub(super) fn man(man: &Man) -> Outcome {
    let Some(directory) = &man.directory else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Arguments::command())
            .render(&mut page)
            .map_err(|error| Failure::internal(error.to_string()))?;
        return print(&page);
    };
    let failed = |error| Failure::file(directory.display(), error);
    fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)
}

fn print(text: &[u8]) -> Outcome {
    let mut out = io::stdout();
    out.write_all(text).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}
