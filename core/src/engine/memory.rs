//! The rows that look-ups read last: the next one asks whether they changed, and gets only those that did. Nothing is true
//! because it is remembered: the database compares the version of every row, in the statement that answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::rows::version::Version;
use crate::table::literal::{optional_array, text_array};
use crate::table::template::{KeyColumn, StatementKind};

/// A row is read anew this long after it was read: transaction ids come again, after four billion.
const KEPT: Duration = Duration::from_secs(3600);

/// A longer row, of a key with very many scopes, say, is read each time: so the memory is bounded in bytes, too.
const MAX_ROW_BYTES: usize = 2_048;

/// A key's row as it was read.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) row: String,
    pub(super) version: Version,
    /// It was found unchanged: only then the next look-up asks whether it is. A key that is charged between look-ups is
    /// better read as it stands.
    pub(super) is_steady: bool,
    read_at: Duration,
}

/// Rows by the column that their key was found by, and its hash or subject.
type Rows = [HashMap<Arc<str>, Arc<Known>>; 2];

/// A bounded memory. What was not asked for while as many others as it holds half of were, is forgotten.
#[derive(Debug)]
pub(super) struct Memory {
    limit: usize,
    /// The server's run, and the table's, that the versions are of.
    run: Arc<str>,
    recent: Rows,
    older: Rows,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        Memory { limit, run: Arc::from(""), recent: Rows::default(), older: Rows::default() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Nothing is remembered any more: the server does not let us ask for versions.
    pub(super) fn turn_off(&mut self) {
        *self = Memory::new(0);
    }

    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// What was read in another run is forgotten.
    pub(super) fn note_run(&mut self, run: &str) {
        if *self.run != *run {
            *self = Memory { run: Arc::from(run), ..Memory::new(self.limit) };
        }
    }

    /// The row of a key, if it was read lately.
    pub(super) fn known(&mut self, column: usize, name: &Arc<str>, now: Duration) -> Option<Arc<Known>> {
        let known = match self.recent[column].get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let (name, known) = self.older[column].remove_entry(name)?;
                self.insert(column, name, &known);
                known
            }
        };
        (now.saturating_sub(known.read_at) < KEPT).then_some(known)
    }

    /// Remembers a row as it was just read, with its version.
    pub(super) fn keep(
        &mut self,
        column: usize,
        name: &Arc<str>,
        row: &str,
        version: Version,
        now: Duration,
    ) {
        if row.len() > MAX_ROW_BYTES {
            return self.forget(column, name);
        }
        let before = self.recent[column].get(name).or_else(|| self.older[column].get(name));
        let is_steady = before.is_some_and(|before| before.version == version);
        let known = Known { row: version.cut_off(row), version, is_steady, read_at: now };
        self.insert(column, Arc::clone(name), &Arc::new(known));
    }

    pub(super) fn forget(&mut self, column: usize, name: &Arc<str>) {
        self.recent[column].remove(name);
        self.older[column].remove(name);
    }

    fn insert(&mut self, column: usize, name: Arc<str>, known: &Arc<Known>) {
        if self.recent.iter().map(HashMap::len).sum::<usize>() >= self.limit.div_ceil(2) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent[column].insert(name, Arc::clone(known));
    }
}

/// What a look-up asks for.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) kind: StatementKind,
    pub(super) params: Vec<Option<String>>,
    /// For each key the row that is asked whether it changed.
    pub(super) known: Vec<Option<Arc<Known>>>,
}

impl Engine {
    /// How several keys are looked up on a table whose rows tell their versions.
    pub(super) fn ask_what_changed(
        &mut self,
        column: KeyColumn,
        keys: &[Arc<str>],
        now: Duration,
    ) -> Question {
        let mut steady = |name| self.memory.known(column as usize, name, now).filter(|known| known.is_steady);
        let known: Vec<Option<Arc<Known>>> = keys.iter().map(&mut steady).collect();
        let mut params = vec![Some(text_array(keys))];
        // Where most rows are to be read anyway, the question costs more than it saves.
        if known.iter().flatten().count() * 2 < keys.len() {
            return Question { kind: StatementKind::ValidateVersions, params, known: Vec::new() };
        }
        let part = |part: fn(&Version) -> &str| {
            Some(optional_array(known.iter().map(|known| known.as_deref().map(|known| part(&known.version)))))
        };
        params.extend([
            part(|v| &v.xmin),
            part(|v| &v.ctid),
            part(|v| &v.used),
            Some(self.memory.run().to_owned()),
        ]);
        Question { kind: StatementKind::ValidateChanged, params, known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(xmin: u32) -> Version {
        Version { xmin: xmin.to_string(), ctid: "(0,1)".to_owned(), used: "0".to_owned() }
    }

    fn keep(memory: &mut Memory, name: &str, xmin: u32, now: Duration) {
        memory.keep(0, &Arc::from(name), "(row)", version(xmin), now);
    }

    fn is_known(memory: &mut Memory, name: &str, now: Duration) -> bool {
        memory.known(0, &Arc::from(name), now).is_some()
    }

    #[test]
    fn it_is_bounded_and_forgets_what_nobody_asks_for() {
        let mut memory = Memory::new(10);
        for n in 0..1_000 {
            keep(&mut memory, &n.to_string(), 1, Duration::ZERO);
            assert!(is_known(&mut memory, "0", Duration::ZERO), "it is asked for all the time");
            let kept: usize =
                [&memory.recent, &memory.older].iter().flat_map(|rows| rows.iter()).map(HashMap::len).sum();
            assert!(kept <= 10, "{kept}");
        }
        assert!(
            is_known(&mut memory, "999", Duration::ZERO) && !is_known(&mut memory, "900", Duration::ZERO)
        );
    }

    #[test]
    fn a_row_is_steady_once_it_was_read_twice_the_same() {
        let mut memory = Memory::new(10);
        for (xmin, expected) in [(1, false), (1, true), (2, false), (3, false), (3, true)] {
            keep(&mut memory, "a", xmin, Duration::ZERO);
            assert_eq!(memory.known(0, &Arc::from("a"), Duration::ZERO).unwrap().is_steady, expected);
        }
    }

    #[test]
    fn a_long_row_is_not_kept() {
        let mut memory = Memory::new(10);
        keep(&mut memory, "a", 1, Duration::ZERO);
        let row = format!("({})", "x".repeat(MAX_ROW_BYTES));
        memory.keep(0, &Arc::from("a"), &row, version(2), Duration::ZERO);
        assert!(!is_known(&mut memory, "a", Duration::ZERO));
    }

    #[test]
    fn another_run_and_an_hour_end_it() {
        let mut memory = Memory::new(10);
        memory.note_run("1");
        keep(&mut memory, "a", 1, Duration::ZERO);
        memory.note_run("1");
        assert!(is_known(&mut memory, "a", KEPT - Duration::from_nanos(1)));
        assert!(!is_known(&mut memory, "a", KEPT));
        memory.note_run("2");
        assert!(!is_known(&mut memory, "a", Duration::ZERO));
        keep(&mut memory, "a", 1, Duration::ZERO);
        memory.forget(0, &Arc::from("a"));
        assert!(!is_known(&mut memory, "a", Duration::ZERO));
    }
}
