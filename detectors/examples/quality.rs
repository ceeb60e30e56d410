//! Evidence for the quality of detection: recorded attacks, generated honest clients, diluted and disguised attacks,
//! and what an attacker has when it is blocked. `load-tests/quality/run.sh` builds and runs it.
//!
//! Tables go to standard output, progress to standard error. The same program prints the same tables: seeds are fixed,
//! and no clock is read. `--write` puts the tables into docs/detection-quality.md and draws the dilution beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and fails by panicking, as the tests do"
)]

#[path = "quality/mod.rs"]
mod quality;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;

/// Between these lines of the page stands what this program writes.
const MARKERS: [&str; 2] = ["<!-- written by load-tests/quality/run.sh --write -->\n", "<!-- until here -->"];
const PAGE: &str = "../docs/detection-quality.md";
const DRAWING: &str = "../docs/img/detection-dilution.svg";

const USAGE: &str = "\
usage: quality [OPTION]

Prints the tables of docs/detection-quality.md; with an option only a part of them.

  --write               put all of it into docs/, with the plot
  --recorded            recorded streams
  --honest              honest clients; also with --tuning, of the seeds that rules were made on, or --drawn, of new ones
  --diluted [ATTACK]... attacks as a part of the traffic; recorded ones, where they are named
  --natural             attacks that content cannot show, beside a population
  --adaptive            an attacker who adapts
  --streams FOLDER      streams of your own";

/// Makes the tables of one section.
type Section = fn() -> String;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let write = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--write"] => true,
        ["--adaptive"] => return println!("{}", quality::adaptive::section()),
        ["--honest"] | ["--honest", "--tuning" | "--drawn"] => {
            return println!("{}", quality::crowd::section());
        }
        ["--diluted", attacks @ ..] => {
            return println!("{}", quality::diluted::dilution_of(attacks));
        }
        ["--natural"] => return println!("{}", quality::diluted::natural_table()),
        ["--recorded"] => return println!("{}", quality::recorded::section()),
        ["--streams", folder] => return println!("{}", quality::given::section(Path::new(folder))),
        ["--help"] => return println!("{USAGE}"),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    let sections: [(&str, Section); 6] = [
        ("recorded streams", quality::recorded::section),
        ("honest clients", quality::crowd::section),
        ("dilution and disguise", quality::diluted::section),
        ("what the attacker has", quality::at_block::section),
        ("an attacker who adapts", quality::adaptive::section),
        ("goals", || format!("## Goals\n\n{}", quality::goals::table())),
    ];
    let made = sections.map(|(name, section)| {
        eprintln!("quality: {name}");
        section()
    });
    let [recorded, crowd, diluted, at_block, adaptive, goals] = made;
    let tables = [goals, recorded, crowd, diluted, at_block, adaptive].join("\n");
    println!("{tables}");
    if write {
        put(PAGE, |page| between_markers(&page, tables.trim_end()));
        put(DRAWING, |_| quality::plot::drawing());
    }
}

/// Replaces a file of the documentation by what is made of it.
fn put(name: &str, make: impl FnOnce(String) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let text = make(std::fs::read_to_string(&path).unwrap_or_default());
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// `page` with everything between its markers replaced.
fn between_markers(page: &str, written: &str) -> String {
    let [begin, end] = MARKERS;
    let (before, rest) = page.split_once(begin).expect("the page has its first marker");
    let (_, after) = rest.split_once(end).expect("the page has its last marker");
    format!("{before}{begin}\n{written}\n\n{end}{after}")
}
