//! The Rust code of the project's README: compiled as written there, and run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

mod support;

use support::TestDatabase;

#[path = "../examples/agents.rs"]
#[allow(dead_code, reason = "its `main` is not run here")]
mod agents;

#[path = "../examples/axum.rs"]
#[allow(dead_code, reason = "its `main` is not run here")]
mod axum_app;

#[tokio::test]
async fn the_example_of_a_team_and_its_agents_runs() {
    let db = TestDatabase::create().await;
    let ak = db.client().await;
    agents::agents(&ak).await.unwrap();
    let used =
        "SELECT count(*) FROM sdk_api_keys WHERE budget_used_cents = 22 AND budget_used_microcents = 340000";
    assert_eq!(db.number(used).await, 2);
}

#[test]
fn the_examples_are_those_of_the_readme() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let blocks: Vec<&str> =
        readme.split("```rust\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let examples = [
        include_str!("../examples/quick_start.rs"),
        include_str!("../examples/axum.rs"),
        include_str!("../examples/agents.rs"),
    ];
    assert_eq!(blocks.len(), examples.len());
    for (block, example) in blocks.iter().zip(examples) {
        assert!(example.contains(block), "an example is not as in the README:\n{block}");
    }
}
