//! What the engine asks a driver to run.

use std::sync::Arc;

use crate::table::template::StatementKind;

/// Names a statement between `poll` and `receive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a number")]
pub struct StatementId(pub u64);

/// One statement: one round trip, one implicit transaction.
///
/// Every parameter is text, which the SQL casts. Every row of the answer is one text column, to be handed back as it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Statement {
    /// Names the statement to [`Engine::receive`](super::Engine::receive).
    pub id: StatementId,
    /// What it does.
    pub kind: StatementKind,
    /// SQL with `$1`, `$2`, ...
    pub sql: Arc<str>,
    /// The parameters; `None` is NULL. Hashes and amounts, never a raw key.
    pub params: Vec<Option<String>>,
}

impl Statement {
    /// Whether it may take as long as it takes.
    pub fn is_unlimited(&self) -> bool {
        matches!(
            self.kind,
            StatementKind::Migrate | StatementKind::DiagnoseDatabase | StatementKind::DiagnoseKeys
        )
    }

    /// Whether the same text comes again and again, and is worth preparing.
    pub fn is_repeated(&self) -> bool {
        !self.is_unlimited() && self.kind != StatementKind::Catalogue
    }
}
