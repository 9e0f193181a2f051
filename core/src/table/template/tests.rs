//! What statements become on tables of other shapes.

use super::super::shape::OWN_COLUMNS;
use super::super::shape::tests::shape;
use super::*;

#[test]
fn a_statement_finds_keys_by_each_column_that_it_or_a_part_of_it_names() {
    let statements = Statements::new(&TableName::default(), shape(&[]), false, &Thresholds::default());
    for kind in [StatementKind::Spend, StatementKind::SpendFresh, StatementKind::SpendFlat] {
        for column in KeyColumn::OF_CREDENTIALS {
            let by = format!("{} = ", column.name());
            assert!(statements.sql_by(column, kind).contains(&by), "{kind:?} by {column:?}");
        }
    }
}

#[test]
fn a_missing_column_reads_as_null_and_its_lines_go() {
    let sql = render(
        "-- A comment.\nSELECT {k.user_id}, {k.name}\n, k.delegated_by --? delegated_by\n, true --! delegated_by\nFROM {table} k",
        &Rendering {
            table: &TableName::default(),
            shape: &shape(&[("user_id", "text")]),
            lookup: "key_hash",
            ledger: false,
            thresholds: &Thresholds::default(),
            variant: "",
        },
    );
    assert_eq!(&*sql, "SELECT k.user_id, NULL::text\n, true\nFROM \"sdk_api_keys\" k");
}

#[test]
fn every_table_names_every_parameter() {
    let optional = OPTIONAL_COLUMNS.iter().copied();
    let others = [
        "prev_key_hash",
        "prev_key_expires_at",
        "+reservations",
        "+events",
        "+requests",
        ALARMS,
        "+versions",
    ];
    let full: Vec<_> = optional.chain(others.map(|column| (column, "text"))).collect();
    let without = |missing: &str| full.iter().copied().filter(|(name, _)| *name != missing).collect();
    let missing = full.iter().filter(|(name, _)| !OWN_COLUMNS.contains(name));
    let tables: Vec<Vec<_>> = missing.map(|(name, _)| without(name)).chain([Vec::new()]).collect();
    let named = |columns: &[(&str, &str)], thresholds: &Thresholds| {
        Statements::new(&TableName::default(), shape(columns), true, thresholds).list()
    };
    let of = |sql: &str| (1..=20).filter(|n| sql.contains(&format!("${n}::"))).collect::<Vec<_>>();
    for thresholds in [Thresholds::default(), Thresholds::new([0.5]).unwrap()] {
        let expected = named(&full, &thresholds);
        for table in &tables {
            for (one, other) in named(table, &thresholds).iter().zip(&expected) {
                assert_eq!(of(&one.2), of(&other.2), "{:?} of {table:?}", one.0);
            }
        }
    }
}
