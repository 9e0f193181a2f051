//! Postgres text forms: array literals for parameters, composite and array literals in answers.
//!
//! Every parameter travels as text and every answer is one text column that holds a composite literal. So a statement
//! is right through any driver, typed or not, and no type parser that an application set can change what is read.

use std::borrow::Cow;

/// Writes a text array literal, such as `{"a","b"}`.
pub(crate) fn text_array<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let mut literal = String::from("{");
    for item in items {
        if literal.len() > 1 {
            literal.push(',');
        }
        literal.push('"');
        let mut plain = item.as_ref();
        // Most are hashes in hexadecimal digits.
        let has_special = plain.bytes().fold(false, |has, b| has | matches!(b, b'"' | b'\\'));
        while has_special && let Some(at) = plain.find(['"', '\\']) {
            literal.push_str(&plain[..at]);
            literal.push('\\');
            literal.push_str(&plain[at..=at]);
            plain = &plain[at + 1..];
        }
        literal.push_str(plain);
        literal.push('"');
    }
    literal.push('}');
    literal
}

/// Writes an array literal of integers, such as `{1,2}`.
pub(crate) fn integer_array(items: impl IntoIterator<Item = i64>) -> String {
    use std::fmt::Write;
    let mut literal = String::from("{");
    for item in items {
        if literal.len() > 1 {
            literal.push(',');
        }
        let _ = write!(literal, "{item}"); // writing to a String cannot fail
    }
    literal.push('}');
    literal
}

/// Writes an array literal of texts that need no escapes, some of them NULL, such as `{"(0,1)",NULL}`.
pub(crate) fn optional_array<'i>(items: impl IntoIterator<Item = Option<&'i str>>) -> String {
    let mut literal = String::from("{");
    for item in items {
        if literal.len() > 1 {
            literal.push(',');
        }
        match item {
            Some(item) => literal.extend(["\"", item, "\""]),
            None => literal.push_str("NULL"),
        }
    }
    literal.push('}');
    literal
}

/// A field of a literal; `None` is NULL.
pub(crate) type Field<'t> = Option<Cow<'t, str>>;

/// Reads a composite literal, such as `(1,,"a b")`. `None` if it is none.
pub fn parse_row(text: &str) -> Option<Vec<Option<Cow<'_, str>>>> {
    parse(text, b'(', b')').map(|field| field.map(row_field)).collect()
}

/// The same of a row that should have so many fields, and how many it has. Without an allocation of its own: there is
/// one for each call.
pub(crate) fn parse_fields<const N: usize>(text: &str) -> Option<([Field<'_>; N], usize)> {
    let mut fields = [const { None }; N];
    let mut count = 0;
    for field in parse(text, b'(', b')') {
        let field = field?;
        if let Some(place) = fields.get_mut(count) {
            *place = row_field(field);
        }
        count += 1;
    }
    Some((fields, count))
}

/// In a composite an unquoted empty field is NULL.
fn row_field((field, quoted): (Cow<'_, str>, bool)) -> Field<'_> {
    (quoted || !field.is_empty()).then_some(field)
}

/// Reads a one-dimensional array literal. `None` if it is none.
pub(crate) fn parse_array<'t>(text: &'t str) -> Option<Vec<Field<'t>>> {
    if text == "{}" {
        return Some(Vec::new());
    }
    let item =
        |(item, quoted): (Cow<'t, str>, bool)| (quoted || !item.eq_ignore_ascii_case("null")).then_some(item);
    parse(text, b'{', b'}').map(|field| field.map(item)).collect()
}

/// Fields between `open` and `close`, divided by commas, and whether any of each was quoted. Both forms quote with `"`,
/// and escape with a backslash or by doubling the quote. Ends with `None` if it is no literal.
fn parse(text: &str, open: u8, close: u8) -> impl Iterator<Item = Option<(Cow<'_, str>, bool)>> {
    let inner = match text.as_bytes() {
        [first, .., last] if (*first, *last) == (open, close) => Some(&text[1..text.len() - 1]),
        _ => None,
    };
    // Most rows have no text that needs quotes: their commas divide.
    let is_plain = text.bytes().fold(true, |is, b| is & !matches!(b, b'"' | b'\\'));
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let start = next.take()?;
        let field = inner.and_then(|inner| match is_plain {
            true => Some(plain_field(inner, start)),
            false => next_field(inner, start),
        });
        Some(field.map(|(value, quoted, end)| {
            next = inner.filter(|inner| end < inner.len()).map(|_| end + 1);
            (value, quoted)
        }))
    })
}

/// The field that starts at `start` of a text without quotes and backslashes, that it was not quoted, and where it ends.
fn plain_field(inner: &str, start: usize) -> (Cow<'_, str>, bool, usize) {
    let rest = &inner[start..];
    let end = rest.bytes().position(|b| b == b',').unwrap_or(rest.len());
    (Cow::Borrowed(&rest[..end]), false, start + end)
}

/// The field that starts at `start`, whether any of it was quoted, and where it ends.
fn next_field(inner: &str, start: usize) -> Option<(Cow<'_, str>, bool, usize)> {
    let bytes = inner.as_bytes();
    let plain = bytes[start..].iter().take_while(|b| !matches!(b, b',' | b'"' | b'\\')).count();
    if matches!(bytes.get(start + plain), None | Some(b',')) {
        return Some((Cow::Borrowed(&inner[start..start + plain]), false, start + plain));
    }
    let mut value = String::new();
    let (mut at, mut copied, mut in_quotes, mut quoted) = (start, start, false, false);
    loop {
        match bytes.get(at) {
            Some(b'"') if in_quotes && bytes.get(at + 1) == Some(&b'"') => {
                value.push_str(&inner[copied..=at]);
                at += 2;
                copied = at;
            }
            Some(b'"') => {
                value.push_str(&inner[copied..at]);
                in_quotes = !in_quotes;
                quoted = true;
                at += 1;
                copied = at;
            }
            Some(b'\\') => {
                value.push_str(&inner[copied..at]);
                copied = at + 1;
                // The escaped character may be longer than a byte: it is copied with what follows.
                at = copied + inner[copied..].chars().next()?.len_utf8();
            }
            None if in_quotes => return None,
            None | Some(b',') if !in_quotes => break,
            _ => at += 1,
        }
    }
    value.push_str(&inner[copied..at]);
    Some((Cow::Owned(value), quoted, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn some<'a>(items: &[&'a str]) -> Vec<Option<Cow<'a, str>>> {
        items.iter().map(|s| Some(Cow::Borrowed(*s))).collect()
    }

    #[test]
    fn reads_what_postgres_writes() {
        // SELECT ROW(1, NULL, '', 'a b', E'q"\\', '(x,y)', '{a,"b c"}'::text[])::text
        let row = parse_row(r#"(1,,"","a b","q""\\","(x,y)","{a,""b c""}")"#).unwrap();
        let mut expected = some(&["1", "", "", "a b", "q\"\\", "(x,y)", r#"{a,"b c"}"#]);
        expected[1] = None;
        assert_eq!(row, expected);
        assert_eq!(parse_row("()").unwrap(), vec![None]);
        assert_eq!(parse_array("{}").unwrap(), vec![]);
        assert_eq!(parse_array(r#"{a,NULL,"NULL","b,c"}"#).unwrap()[1], None);
        assert_eq!(parse_array(r#"{a,NULL,"NULL","b,c"}"#).unwrap()[2].as_deref(), Some("NULL"));
    }

    #[test]
    fn refuses_what_is_no_literal() {
        for bad in ["", "(", "1", "(\"a)", "(a\\", "{a}", "(\\)"] {
            assert_eq!(parse_row(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_array_reads_back(items in prop::collection::vec(any::<String>(), 0..8)) {
            let literal = text_array(&items);
            let read: Vec<_> = parse_array(&literal).unwrap().into_iter().map(|i| i.unwrap().into_owned()).collect();
            prop_assert_eq!(read, items);
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            let _ = parse_row(&text);
            let _ = parse_row(&format!("({text})"));
            let _ = parse_array(&format!("{{{text}}}"));
        }
    }
}
