//! The command line as a user meets it. An integration test of this package also makes `cargo test` build the
//! binary, which the black-box tests of `load-tests` start.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::process::{Command, Output};

fn checkgate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_checkgate")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_names_every_command() {
    let help = checkgate(&["--help"]);
    assert!(help.status.success(), "{}", said(&help));
    for command in ["run", "demo", "check", "replay", "kill-switch", "detectors", "protocols", "schema"] {
        assert!(said(&help).contains(&format!("\n  {command} ")), "{command} is missing in {}", said(&help));
    }
}

#[test]
fn run_without_an_upstream_says_what_to_give() {
    let refused = checkgate(&["run"]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("--upstream http://"), "{}", said(&refused));
}

#[test]
fn every_detector_and_protocol_is_listed() {
    for (list, names) in [
        ("detectors", ["one_field_sweep", "field_by_field", "client_volume"].as_slice()),
        ("protocols", &["oip_v2", "mlflow"]),
    ] {
        let listed = checkgate(&[list]);
        for name in names {
            assert!(
                said(&listed).lines().any(|line| line == *name),
                "{name} is missing in {}",
                said(&listed)
            );
        }
    }
}

#[test]
fn a_mistyped_key_is_refused_with_the_nearest_known_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkgate.yaml");
    std::fs::write(&file, "upstream: http://127.0.0.1:9\nmod: enforce\n").unwrap();
    let refused = checkgate(&["check", "-c", file.to_str().unwrap()]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(said(&refused).contains("2:1") && said(&refused).contains("mode"), "{}", said(&refused));
}
