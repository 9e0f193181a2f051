//! The user's table: its name, its shape, the statements rendered for that shape, and the migrations.

pub(crate) mod literal;
pub(crate) mod migrations;
pub(crate) mod name;
mod scopes;
pub(crate) mod shape;
pub(crate) mod template;
