//! Expectations: references to kept values, matchers, and the comparison.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::Problem;

/// What steps kept with `as`.
pub type Kept = HashMap<String, Value>;

/// Puts kept values where `value` refers to them. SQL conditions are left to `fill`.
pub fn resolve(value: &Value, kept: &Kept) -> Result<Value, Problem> {
    Ok(match value {
        Value::String(text) => match text.strip_prefix('$') {
            None => value.clone(),
            Some(rest) if rest.starts_with('$') => Value::from(rest),
            Some(path) => look_up(path, kept)?,
        },
        Value::Array(items) => items.iter().map(|item| resolve(item, kept)).collect::<Result<_, _>>()?,
        Value::Object(members) if members.keys().any(|name| name.starts_with('$')) => value.clone(),
        Value::Object(members) => {
            let resolved = members.iter().map(|(name, member)| Ok((name.clone(), resolve(member, kept)?)));
            Value::Object(resolved.collect::<Result<Map<_, _>, Problem>>()?)
        }
        _ => value.clone(),
    })
}

fn look_up(path: &str, kept: &Kept) -> Result<Value, Problem> {
    let mut parts = path.split('.');
    let first = parts.next().and_then(|name| kept.get(name));
    let found = parts.fold(first, |value, member| value.and_then(|value| value.get(member)));
    found.cloned().ok_or_else(|| format!("nothing was kept as ${path}"))
}

/// Replaces the marks of SQL: `{table}`, `{$k.id}`, and `{value}` where there is one.
pub fn fill(sql: &str, table: &str, kept: &Kept, value: Option<&Value>) -> Result<String, Problem> {
    let mut filled = sql.replace("{table}", table);
    if let Some(value) = value {
        filled = filled.replace("{value}", &literal(value));
    }
    while let Some(start) = filled.find("{$") {
        let end = filled[start..].find('}').ok_or_else(|| format!("no end of {}", &filled[start..]))? + start;
        let value = look_up(&filled[start + 2..end], kept)?;
        filled.replace_range(start..=end, &literal(&value));
    }
    Ok(filled)
}

fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => format!("'{}'", other.to_string().replace('\'', "''")),
    }
}

/// What a comparison found.
#[derive(Default)]
pub struct Comparison {
    /// Where the values differ.
    pub differences: Vec<String>,
    /// Conditions that the database has to check: where, the SQL, and the actual value.
    pub conditions: Vec<(String, String, Value)>,
}

impl Comparison {
    /// `whole`: objects have no members but the expected ones.
    pub fn of(expected: &Value, actual: &Value, whole: bool) -> Self {
        let mut comparison = Comparison::default();
        comparison.compare("", expected, actual, whole);
        comparison
    }

    fn compare(&mut self, at: &str, expected: &Value, actual: &Value, whole: bool) {
        match (expected, actual) {
            (Value::Object(matcher), _) if matcher.keys().any(|name| name.starts_with('$')) => {
                self.matches(at, matcher, actual);
            }
            (Value::Object(expected), Value::Object(actual)) => {
                for (name, member) in expected {
                    match actual.get(name) {
                        Some(found) => self.compare(&format!("{at}.{name}"), member, found, whole),
                        None => self.differ(&format!("{at}.{name}"), member, "nothing"),
                    }
                }
                for (name, found) in actual.iter().filter(|(name, _)| whole && !expected.contains_key(*name))
                {
                    self.differ(&format!("{at}.{name}"), "nothing", found);
                }
            }
            (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
                for (n, (expected, found)) in expected.iter().zip(found).enumerate() {
                    self.compare(&format!("{at}[{n}]"), expected, found, whole);
                }
            }
            (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => {}
            _ if expected == actual => {}
            _ => self.differ(at, expected, actual),
        }
    }

    fn matches(&mut self, at: &str, matcher: &Map<String, Value>, actual: &Value) {
        let mut members = matcher.iter();
        match (members.next(), members.next()) {
            (Some((name, Value::Bool(true))), None) if name == "$any" => {
                if actual.is_null() {
                    self.differ(at, "anything", actual);
                }
            }
            (Some((name, Value::String(condition))), None) if name == "$sql" => {
                self.conditions.push((at.to_owned(), condition.clone(), actual.clone()));
            }
            _ => self.differences.push(format!(
                "  {}: unknown matcher {}",
                path(at),
                Value::Object(matcher.clone())
            )),
        }
    }

    pub fn differ(&mut self, at: &str, expected: impl std::fmt::Display, actual: impl std::fmt::Display) {
        self.differences.push(format!("  {}: expected {expected}, got {actual}", path(at)));
    }
}

fn path(at: &str) -> &str {
    match at.strip_prefix('.').unwrap_or(at) {
        "" => "the result",
        path => path,
    }
}
