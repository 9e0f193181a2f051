//! Money, times and names as people read them. Nothing that the database holds can steer a terminal.

use chrono::{DateTime, NaiveDate, Utc};
use clap::builder::styling::{AnsiColor, Style};

use crate::budget::money::MICROCENTS_PER_CENT;
use crate::error::without_keys;

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const HELD: Style = AnsiColor::Yellow.on_default();
pub(super) const SPENT: Style = AnsiColor::Cyan.on_default();
pub(super) const FAINT: Style = Style::new().dimmed();
pub(super) const TITLE: Style = Style::new().bold();

/// Always with its colours: what has none takes them away where it is written.
pub(super) fn paint(style: Style, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{style}{text}{style:#}") }
}

/// A text of somebody's, without what a terminal would obey or turn round.
pub(super) fn shown(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
            || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut said = String::with_capacity(text.len());
    for c in text.chars() {
        if is_odd(c) { said.extend(c.escape_unicode()) } else { said.push(c) }
    }
    said
}

/// The same on one line, and no longer than a table can bear.
pub(super) fn cell(text: &str) -> String {
    const LONGEST: usize = 60;
    let text = shown(text).replace('\n', "\\n");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A text in which somebody may have put a raw key or a password in the wrong place.
pub(super) fn without_secrets(text: &str) -> String {
    let mut said = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        said.push_str(before);
        said.push_str("://");
        // A password may hold anything: it ends at the last @ of its line.
        let line = &after[..after.find('\n').unwrap_or(after.len())];
        rest = match line.rfind('@') {
            Some(end) => {
                said.push_str(line[..end].split([':', ' ', '@']).next().unwrap_or_default());
                said.push_str(":[redacted]@");
                &after[end + 1..]
            }
            None => after,
        };
    }
    said.push_str(rest);
    without_keys(&without_passwords(&said))
}

/// As libpq and the parameters of a URL write them.
fn without_passwords(text: &str) -> String {
    const NAME: &str = "password";
    let mut said = String::new();
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(NAME) {
        let (before, after) = rest.split_at(at + NAME.len());
        said.push_str(before);
        rest = after;
        let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else { continue };
        said.push_str("=[redacted]");
        rest = match value.strip_prefix('\'') {
            Some(quoted) => after_quote(quoted),
            None => value.find(|c: char| c.is_whitespace() || c == '&').map_or("", |end| &value[end..]),
        };
    }
    said.push_str(rest);
    said
}

/// What follows a quoted value, in which a backslash takes the meaning of what follows it.
fn after_quote(quoted: &str) -> &str {
    let mut letters = quoted.chars();
    loop {
        match letters.next() {
            Some('\\') => drop(letters.next()),
            Some('\'') | None => return letters.as_str(),
            Some(_) => {}
        }
    }
}

/// Micro-cents as dollars: whole cents have two places, a fraction of a cent as many as it needs.
pub(super) fn money(microcents: i64) -> String {
    let amount = microcents.unsigned_abs();
    let cent = MICROCENTS_PER_CENT.unsigned_abs();
    let (cents, fraction) = (amount / cent, amount % cent);
    let sign = if microcents < 0 { "-" } else { "" };
    let mut text = format!("{sign}${}.{:02}", grouped(cents / 100), cents % 100);
    if fraction > 0 {
        text.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

pub(super) fn cents(cents: i64) -> String {
    money(cents.saturating_mul(MICROCENTS_PER_CENT))
}

/// A number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in UTC, to the minute.
pub(super) fn time(at: &DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

pub(super) fn optional_time(at: Option<&DateTime<Utc>>) -> String {
    at.map(time).unwrap_or_default()
}

/// Reads a day, or a time in RFC 3339.
pub(super) fn read_time(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let time = DateTime::parse_from_rfc3339(text)
        .map_err(|_| "expected 2026-11-30 or 2026-11-30T12:00:00Z".to_owned())?;
    Ok(time.to_utc())
}

/// How much of a whole is spent and held, `width` wide. What is there at all has a mark.
pub(super) fn bar(spent: i64, held: i64, whole: i64, width: u64, unicode: bool) -> String {
    let [full, half, empty] = if unicode { ["█", "▒", "░"] } else { ["#", "=", "."] };
    let part = |amount: i64| -> u64 {
        let (amount, whole) =
            (u128::from(amount.max(0).unsigned_abs()), u128::from(whole.max(1).unsigned_abs()));
        let marks = (amount * u128::from(width)).div_ceil(whole).min(u128::from(width));
        u64::try_from(marks).unwrap_or(width)
    };
    let spent = if whole <= 0 { width } else { part(spent) };
    let held = part(held).min(width - spent);
    let repeat = |mark: &str, count: u64| mark.repeat(usize::try_from(count).unwrap_or_default());
    let free = repeat(empty, width - spent - held);
    format!(
        "{}{}{}",
        paint(SPENT, &repeat(full, spent)),
        paint(HELD, &repeat(half, held)),
        paint(FAINT, &free)
    )
}
