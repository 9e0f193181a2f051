//! `migrate`.

use super::mismatch;
use crate::cli::args::{Global, Migrate};
use crate::cli::host::{Exit, Host, Outcome};
use crate::cli::text::{GOOD, cell, paint, shown};
use crate::engine::{Answer, Diagnosis, Finding, Request, TableName, migration_sql};

/// The findings that a migration puts right.
const MIGRATED: &[&str] =
    &["no_table", "not_migrated", "missing_column", "missing_companion", "missing_index"];

pub(super) async fn migrate(host: &Host, migrate: &Migrate, global: &Global) -> Outcome {
    if migrate.sql {
        for sql in migration_sql(&TableName::new(&global.table)?) {
            host.out(format!("{sql}\n")).await?;
        }
        return Ok(Exit::Done);
    }
    if migrate.dry_run {
        return dry_run(host).await;
    }
    host.progress("Migrating: a table that is complete is not locked ...").await?;
    let answer = host.call(Request::Migrate).await?;
    if !matches!(answer, Answer::Migrated) {
        return Err(mismatch(&answer));
    }
    let text = if host.look.json { answer.json(true) } else { paint(GOOD, "The table is complete.") };
    host.out(text).await?;
    Ok(Exit::Done)
}

async fn dry_run(host: &Host) -> Outcome {
    let answer = host.call(Request::Diagnose(Diagnosis::Database)).await?;
    let Answer::Diagnosed(findings) = answer else { return Err(mismatch(&answer)) };
    let missing: Vec<Finding> =
        findings.into_iter().filter(|f| MIGRATED.contains(&f.check.as_str())).collect();
    if host.look.json {
        host.out(Answer::Diagnosed(missing).json(true)).await?;
        return Ok(Exit::Done);
    }
    if missing.is_empty() {
        host.out(paint(GOOD, "The table is complete: `agentkey migrate` would change nothing.")).await?;
        return Ok(Exit::Done);
    }
    host.out("`agentkey migrate` would add:").await?;
    for finding in &missing {
        let what = match (finding.check.as_str(), finding.subject.as_deref()) {
            ("no_table", Some(table)) => {
                format!("the table {}, with its companions and indexes", cell(table))
            }
            ("not_migrated", _) => {
                format!("columns: {}", shown(finding.found.trim_start_matches("it lacks ")))
            }
            ("missing_column", Some(column)) => format!("the column {}", cell(column)),
            ("missing_companion", Some(table)) => format!("the table {}, with its indexes", cell(table)),
            (_, subject) => format!("the index on {}", shown(subject.unwrap_or_default())),
        };
        host.out(format!("  {what}")).await?;
    }
    host.note("Nothing was changed. `agentkey migrate --sql` prints the statements.").await?;
    Ok(Exit::Done)
}
