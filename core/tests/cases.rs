//! Runs the shared cases of `tests/cases`: its README describes the format.

mod cases_runner;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cases_runner::File;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Files under way at once: each holds some connections.
const AT_ONCE: usize = 4;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes() {
    let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    assert!(!paths.is_empty(), "the case files are gone");
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for path in paths {
        let places = Arc::clone(&places);
        running.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match File::read(&std::fs::read_to_string(&path).unwrap()) {
                Ok(file) => file.run(&name, &directory()).await,
                Err(problem) => vec![format!("{name}: {problem}")],
            }
        });
    }
    let failures: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    assert!(failures.is_empty(), "{} failed:\n\n{}\n", failures.len(), failures.join("\n\n"));
}

#[test]
fn a_file_with_an_unknown_member_or_without_cases_is_refused() {
    assert!(File::read(r#"{"about": "a", "cases": [{"name": "n", "steps": []}]}"#).is_ok());
    for bad in [
        "[]",
        r#"{"about": "a"}"#,
        r#"{"about": "a", "cases": []}"#,
        r#"{"cases": [{"name": "n", "steps": []}]}"#,
        r#"{"about": "a", "tests": [], "cases": [{"name": "n", "steps": []}]}"#,
        r#"{"about": "a", "cases": [{"name": "n", "steps": [], "skip": true}]}"#,
        r#"{"about": "a", "cases": [{"name": "n", "steps": []}, {"name": "n", "steps": []}]}"#,
        r#"{"about": "a", "tables": [], "cases": [{"name": "n", "steps": []}]}"#,
    ] {
        assert!(File::read(bad).is_err(), "{bad}");
    }
}
