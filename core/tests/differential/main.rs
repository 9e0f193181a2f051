//! The SQL and the simulation's model of it do the same: random statements on random rows, on a real Postgres and on the
//! model. Every statement that reads or moves money is compared: its rows, and the tables after it.
//!
//! `AGENTKEY_DIFF_SEED=n` begins with that round; `AGENTKEY_DIFF_ROUNDS=n` sets how many there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop")]

#[path = "../simulation/database/mod.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod database;
mod draw;
#[path = "../simulation/random.rs"]
mod random;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::collections::BTreeMap;

use agentkey::engine::{StatementKind, parse_row};
use database::text::array;
use random::Random;
use support::TestDatabase;
use table::{State, Table, normal, state_of};

const ROUNDS: u64 = 320;
const STEPS: usize = 25;
const START: i64 = 1_764_000_000;

/// Statements that this test draws.
const COMPARED: &[StatementKind] = &[
    StatementKind::ValidateOne,
    StatementKind::ValidateMany,
    StatementKind::ValidateVersions,
    StatementKind::ValidateChanged,
    StatementKind::Validate,
    StatementKind::ChargeOne,
    StatementKind::ChargeMany,
    StatementKind::ChargeContended,
    StatementKind::ChargeBatch,
    StatementKind::ChargeTree,
    StatementKind::ChargeTreeContended,
    StatementKind::SpendFlat,
    StatementKind::SpendFresh,
    StatementKind::Spend,
    StatementKind::SettleFlat,
    StatementKind::Settle,
    StatementKind::Refund,
    StatementKind::ExpiredReservations,
    StatementKind::ExpiredOfKey,
];

/// Plain charges are written into no ledger: where all money is, engines do not send them.
const IN_NO_LEDGER: &[StatementKind] = &[
    StatementKind::ChargeOne,
    StatementKind::ChargeMany,
    StatementKind::ChargeContended,
    StatementKind::ChargeBatch,
    StatementKind::ChargeTree,
    StatementKind::ChargeTreeContended,
];

/// Others: `Parent` has the text of `Validate`, `VerifyLedger` is what the ledger is checked with here, and the rest
/// neither reads nor moves money. `UpdateKey` has tests of its own.
const OTHERS: &[StatementKind] = &[
    StatementKind::Parent,
    StatementKind::VerifyLedger,
    StatementKind::Touch,
    StatementKind::Insert,
    StatementKind::Keys,
    StatementKind::ListKeys,
    StatementKind::ListOfAccount,
    StatementKind::ListOfParent,
    StatementKind::ListOfHuman,
    StatementKind::ListOfState,
    StatementKind::ListByIndex,
    StatementKind::FormerKeys,
    StatementKind::KeysById,
    StatementKind::RotateKey,
    StatementKind::UpdateKey,
    StatementKind::UpdateLimits,
    StatementKind::TripBreaker,
    StatementKind::Revoke,
    StatementKind::RevokeAll,
    StatementKind::Events,
    StatementKind::EventsAfter,
    StatementKind::ClaimDeliveries,
    StatementKind::EndDelivery,
    StatementKind::RaiseNotices,
    StatementKind::Deliveries,
    StatementKind::CountSignup,
    StatementKind::Usage,
    StatementKind::PruneEvents,
    StatementKind::DiagnoseKeys,
    StatementKind::Explain,
    StatementKind::RequestIncrease,
    StatementKind::ListIncreases,
    StatementKind::DecideIncrease,
];

#[tokio::test]
async fn the_model_and_the_sql_do_the_same() {
    let db = TestDatabase::create().await;
    let mut tables =
        [Table::make(db.session().await, false).await, Table::make(db.session().await, true).await];
    for (kind, ..) in &tables[0].texts {
        assert!(COMPARED.contains(kind) || OTHERS.contains(kind), "{kind:?} moves money, or does it not?");
    }
    let first = number("AGENTKEY_DIFF_SEED").unwrap_or(0);
    let rounds = number("AGENTKEY_DIFF_ROUNDS").unwrap_or(ROUNDS);
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for seed in first..first + rounds {
        round(&mut tables[(seed % 2) as usize], seed, &mut rows).await;
    }
    println!("rows compared: {rows:?}");
    if rounds >= ROUNDS {
        let total: usize = rows.values().sum();
        assert!(total >= 10_000, "{total} rows are few");
        assert_eq!(rows.len(), COMPARED.len(), "some statements were never compared: {rows:?}");
    }
    db.drop().await;
}

async fn round(table: &mut Table, seed: u64, rows: &mut BTreeMap<String, usize>) {
    let mut random = Random::new(seed);
    let mut model = draw::database(&mut random, START);
    table.write(&model).await;
    let initial = table.state().await;
    assert_eq!(initial, state_of(&model), "seed {seed}: the rows are not as drawn");
    for step in 0..STEPS {
        model.now += random.pick(&[0, 0, 1, 90, 4_000]);
        let (kind, params) = draw::statement(&mut random, &model);
        if table.ledger && IN_NO_LEDGER.contains(&kind) {
            continue;
        }
        let texts = (0..table.texts.len()).filter(|n| {
            let (known, column, _) = &table.texts[*n];
            *known == kind && *column != Some("id")
        });
        let texts: Vec<usize> = texts.collect();
        let mut after = model.clone();
        let asks = kind == StatementKind::ValidateChanged;
        let versions = table.statement(StatementKind::ValidateVersions, params[..1].to_vec());
        let of_model = if asks {
            remembered(&params, &model.clone().execute(&versions, None).0)
        } else {
            params.clone()
        };
        let (said, _) = after.execute(&table.statement(kind, of_model), None);
        let said = normal(said);
        let keeps = random.chance(70);
        for (n, text) in texts.iter().copied().enumerate() {
            let column = table.texts[text].1;
            let what =
                format!("seed {seed}, step {step}: {kind:?} by {column:?} at {}\n{params:#?}", model.now);
            table.run("BEGIN").await;
            let of_table = match asks {
                true => remembered(&params, &table.versions(model.now, column, &params[..1]).await),
                false => params.clone(),
            };
            let answered = table.execute(model.now, text, &of_table).await;
            assert_eq!(
                answered,
                said,
                "{what}\nthe SQL's rows are not the model's (right)\n{}",
                shown(&model)
            );
            let state = table.state().await;
            same(&state, &state_of(&after), &what);
            if table.ledger {
                let discrepancies = table.discrepancies().await;
                assert!(discrepancies.is_empty(), "{what}\nthe ledger does not add up: {discrepancies:?}");
            }
            let is_last = n + 1 == texts.len();
            table.run(if keeps && is_last { "COMMIT" } else { "ROLLBACK" }).await;
            *rows.entry(format!("{kind:?}")).or_default() += answered.len();
        }
        if keeps {
            model = after;
        }
    }
}

/// The parameters of a statement that asks what changed: the keys, and for each whether its row is remembered as it is,
/// otherwise, or not at all. `rows` are those of the keys, with their versions.
fn remembered(params: &[Option<String>], rows: &[String]) -> Vec<Option<String>> {
    let [lookups, known] = params else { panic!("keys, and what is known of each") };
    let rows: Vec<Vec<Option<String>>> = rows
        .iter()
        .map(|row| parse_row(row).unwrap().into_iter().map(|field| field.map(Into::into)).collect())
        .collect();
    let of = |n: usize| rows.iter().find(|row| row[0].as_deref() == Some(&n.to_string()));
    let run = of(0).unwrap()[2].clone();
    let column = |field: usize| {
        let known = array(known.as_deref().unwrap());
        let of = |n: usize| of(n).filter(|row| row.get(22).is_some_and(Option::is_some));
        let values = known.iter().zip(1..).map(|(known, n)| match (known.as_str(), of(n)) {
            ("same", Some(row)) => format!("\"{}\"", row[field].as_deref().unwrap()),
            ("other", Some(row)) if field == 22 => {
                format!("{}", row[22].as_deref().unwrap().parse::<u32>().unwrap() ^ 1)
            }
            ("other", Some(row)) => format!("\"{}\"", row[field].as_deref().unwrap()),
            _ => "NULL".to_owned(),
        });
        Some(format!("{{{}}}", values.collect::<Vec<_>>().join(",")))
    };
    vec![lookups.clone(), column(22), column(23), column(9), run]
}

fn shown(model: &database::Database) -> String {
    let keys: Vec<String> = model.keys.iter().map(|key| format!("{key:?}")).collect();
    let reservations: Vec<String> = model.companions.reservations.iter().map(|r| format!("{r:?}")).collect();
    [keys, reservations].concat().join("\n")
}

fn same(sql: &State, model: &State, what: &str) {
    for (id, row) in &sql.0 {
        assert_eq!(
            Some(row),
            model.0.get(id),
            "{what}\nkey {id} (used, held, reset): the SQL's is not the model's (right)"
        );
    }
    assert_eq!(sql.1, model.1, "{what}\nthe SQL's reservations are not the model's (right)");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}
