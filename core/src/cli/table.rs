//! Tables.

use tabled::builder::Builder;
use tabled::settings::object::Columns;
use tabled::settings::{Alignment, Modify, Padding, Style};

use super::text::{TITLE, paint};

/// A table as text: a heading in capitals, columns two blanks apart. Columns whose heading ends in `>` are aligned to the
/// right, and columns without a value are left out.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let has_value =
        |column: usize| rows.iter().any(|row| row.get(column).is_some_and(|value| !value.is_empty()));
    let kept: Vec<usize> = (0..headings.len()).filter(|column| has_value(*column)).collect();
    let mut builder = Builder::default();
    builder.push_record(kept.iter().map(|column| paint(TITLE, headings[*column].trim_end_matches('>'))));
    for row in rows {
        builder.push_record(kept.iter().map(|column| row.get(*column).map_or("", String::as_str)));
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    for (place, column) in kept.iter().enumerate() {
        if headings[*column].ends_with('>') {
            table.with(Modify::new(Columns::one(place)).with(Alignment::right()));
        }
    }
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Names and values, one a line. Without a value there is no line.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let facts = facts.iter().filter(|(_, value)| !value.is_empty());
    let mut builder = Builder::default();
    for (name, value) in facts {
        builder.push_record([paint(TITLE, name), value.clone()]);
    }
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    let mut text = String::new();
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
