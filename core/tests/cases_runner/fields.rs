//! The members of a JSON object, taken one by one: what nobody took is an error.

use serde_json::{Map, Value};

use super::Problem;

pub struct Fields(Map<String, Value>);

impl Fields {
    pub fn read(value: Value) -> Result<Self, Problem> {
        match value {
            Value::Object(map) => Ok(Fields(map)),
            other => Err(format!("not an object: {other}")),
        }
    }

    /// `Some(Null)` is a null that was given.
    pub fn optional(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    pub fn required(&mut self, name: &str) -> Result<Value, Problem> {
        self.optional(name).ok_or_else(|| format!("lacks {name:?}"))
    }

    pub fn text(&mut self, name: &str) -> Result<String, Problem> {
        text(self.required(name)?)
    }

    pub fn optional_text(&mut self, name: &str) -> Result<Option<String>, Problem> {
        self.optional(name).map(text).transpose()
    }

    pub fn list(&mut self, name: &str) -> Result<Vec<Value>, Problem> {
        list(self.required(name)?)
    }

    pub fn optional_list(&mut self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        self.optional(name).map(list).transpose()
    }

    pub fn optional_count(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let count = |value: Value| value.as_u64().ok_or_else(|| format!("not a count: {value}"));
        self.optional(name).map(count).transpose()
    }

    pub fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, Problem> {
        let flag = |value: Value| value.as_bool().ok_or_else(|| format!("not true or false: {value}"));
        self.optional(name).map(flag).transpose()
    }

    /// Puts a member in.
    pub fn give(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// What is left.
    pub fn into_members(self) -> Map<String, Value> {
        self.0
    }

    pub fn finish(self) -> Result<(), Problem> {
        match self.0.keys().next() {
            Some(unknown) => Err(format!("unknown member {unknown:?}")),
            None => Ok(()),
        }
    }
}

pub fn text(value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("not a text: {other}")),
    }
}

pub fn texts(value: Value) -> Result<Vec<String>, Problem> {
    list(value)?.into_iter().map(text).collect()
}

fn list(value: Value) -> Result<Vec<Value>, Problem> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(format!("not a list: {other}")),
    }
}
