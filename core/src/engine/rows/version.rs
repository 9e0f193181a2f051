//! Which version of a key's row was read, and what versions are told apart within.

use super::fields;

/// Which version of a row was read. Another one differs in a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) xmin: String,
    pub(crate) ctid: String,
    pub(crate) used: String,
}

impl Version {
    /// A row as the plain statements answer it: the version is at its end.
    pub(crate) fn cut_off(&self, row: &str) -> String {
        let length = row.len().saturating_sub(1);
        let version = self.xmin.len() + self.ctid.len() + r#",,"""#.len();
        let mut row = row.get(..length.saturating_sub(version)).unwrap_or_default().to_owned();
        row.push(')');
        row
    }
}

/// A row of a statement that answers versions, in place of 0.
pub(crate) struct Stand {
    /// The statement's time, as the database wrote it.
    pub(crate) now: String,
    /// What the versions are told apart within.
    pub(crate) run: String,
}

impl Stand {
    /// `None` of a row that is a key's.
    pub(crate) fn read(row: &str) -> Option<Self> {
        let [_, now, run] = fields(row.strip_prefix("(0,").map(|_| row)?, "the run").ok()?;
        Some(Stand { now: now?.into_owned(), run: run?.into_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_its_version_is_a_plain_one() {
        let version = Version { xmin: "731".to_owned(), ctid: "(12,3)".to_owned(), used: "5".to_owned() };
        assert_eq!(version.cut_off(r#"(1,7,,f,,731,"(12,3)")"#), "(1,7,,f,)");
        assert_eq!(version.cut_off(""), ")");
    }
}
