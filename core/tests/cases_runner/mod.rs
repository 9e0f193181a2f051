//! The runner of shared cases: files and cases. `session` runs steps, `call` makes calls, `expect` compares.

mod call;
mod expect;
mod fields;
mod session;

use std::path::Path;

use serde_json::Value;

use fields::Fields;
use session::Session;

use crate::support::TestDatabase;

/// A failure in words.
pub type Problem = String;

/// A file of cases.
pub struct File {
    cases: Vec<Case>,
}

struct Case {
    name: String,
    tables: Vec<Table>,
    setup: Vec<String>,
    client: Value,
    must_fail: bool,
    steps: Vec<Value>,
}

/// The table that a case finds.
#[derive(Debug, Clone)]
pub enum Table {
    Migrated,
    None,
    Original { id: String, account: String },
}

impl File {
    pub fn read(text: &str) -> Result<Self, Problem> {
        let mut fields = Fields::read(serde_json::from_str(text).map_err(|e| e.to_string())?)?;
        fields.text("about")?;
        let inherited = Inherited::take(&mut fields)?;
        let cases = fields.list("cases")?;
        fields.finish()?;
        if cases.is_empty() {
            return Err("no cases".to_owned());
        }
        let mut names = std::collections::HashSet::new();
        let cases =
            cases.into_iter().map(|case| Case::read(case, &inherited)).collect::<Result<Vec<_>, _>>()?;
        match cases.iter().find(|case| !names.insert(&case.name)) {
            Some(twice) => Err(format!("two cases are named {:?}", twice.name)),
            None => Ok(File { cases }),
        }
    }

    /// Runs every case on each of its tables, and tells what failed.
    pub async fn run(&self, file: &str, directory: &Path) -> Vec<Problem> {
        let db = TestDatabase::create().await;
        let mut failures = Vec::new();
        for case in &self.cases {
            for table in &case.tables {
                let result = case.run(&db, table, directory).await;
                let result = match (case.must_fail, result) {
                    (true, Err(_)) => Ok(()),
                    (true, Ok(())) => Err("it passed, but it must fail".to_owned()),
                    (false, result) => result,
                };
                if let Err(problem) = result {
                    failures.push(format!("{file}: {} (table: {table})\n{problem}", case.name));
                }
            }
        }
        db.drop().await;
        failures
    }
}

/// What a case may say, and the file says for the cases that do not.
struct Inherited {
    tables: Option<Vec<Table>>,
    setup: Option<Vec<String>>,
    client: Option<Value>,
    must_fail: Option<bool>,
}

impl Inherited {
    fn take(fields: &mut Fields) -> Result<Self, Problem> {
        let tables = fields.optional_list("tables")?;
        if tables.as_ref().is_some_and(Vec::is_empty) {
            return Err("a case on no table".to_owned());
        }
        let texts = |list: Vec<Value>| list.into_iter().map(fields::text).collect::<Result<_, _>>();
        Ok(Inherited {
            tables: tables
                .map(|list| list.into_iter().map(Table::read).collect::<Result<_, _>>())
                .transpose()?,
            setup: fields.optional_list("setup")?.map(texts).transpose()?,
            client: fields.optional("client"),
            must_fail: fields.optional_flag("mustFail")?,
        })
    }
}

impl Case {
    fn read(value: Value, inherited: &Inherited) -> Result<Self, Problem> {
        let mut fields = Fields::read(value)?;
        let name = fields.text("name")?;
        let own = Inherited::take(&mut fields).map_err(|problem| format!("{name}: {problem}"))?;
        let steps = fields.list("steps")?;
        fields.finish().map_err(|problem| format!("{name}: {problem}"))?;
        Ok(Case {
            name,
            tables: own.tables.or_else(|| inherited.tables.clone()).unwrap_or_else(|| vec![Table::Migrated]),
            setup: own.setup.or_else(|| inherited.setup.clone()).unwrap_or_default(),
            client: own.client.or_else(|| inherited.client.clone()).unwrap_or_else(|| serde_json::json!({})),
            must_fail: own.must_fail.or(inherited.must_fail).unwrap_or(false),
            steps,
        })
    }

    async fn run(&self, db: &TestDatabase, table: &Table, directory: &Path) -> Result<(), Problem> {
        let mut session = Session::open(db, table, directory, &self.setup, &self.client).await?;
        let result = session.run(&self.steps).await;
        session.close().await;
        result
    }
}

impl Table {
    fn read(value: Value) -> Result<Self, Problem> {
        let original =
            |id: &str, account: &str| Table::Original { id: id.to_owned(), account: account.to_owned() };
        match value.as_str() {
            Some("migrated") => Ok(Table::Migrated),
            Some("none") => Ok(Table::None),
            Some("original") => Ok(original("SERIAL", "TEXT")),
            Some(other) => Err(format!("an unknown table: {other}")),
            None => {
                let mut fields = Fields::read(value)?;
                let table = original(&fields.text("id")?, &fields.text("account")?);
                fields.finish()?;
                Ok(table)
            }
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Table::Migrated => f.write_str("migrated"),
            Table::None => f.write_str("none"),
            Table::Original { id, account } => write!(f, "original, id {id}, account_id {account}"),
        }
    }
}
