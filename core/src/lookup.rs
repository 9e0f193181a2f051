//! What a look-up's row says of a key and its ancestors.

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::literal::{parse_array, parse_row};
use crate::money::{Balance, MICROCENTS_PER_CENT};
use crate::scope::parse_stored;
use crate::shape::TableShape;
use crate::verdict::{AccountId, Denial, DenialReason, Grant, KeyId, Limit, Verdict, read_key_id};

/// A row of `validate.sql`, read.
pub(crate) struct Lookup<'r> {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    /// The id as the database wrote it.
    pub(crate) id: std::borrow::Cow<'r, str>,
    /// Whether `last_used_at` is due.
    pub(crate) stale: bool,
    pub(crate) verdict: Verdict,
    /// The ids of its ancestors, nearest first.
    pub(crate) ancestors: Vec<KeyId>,
    /// Until it or an ancestor expires.
    pub(crate) seconds_left: Option<i64>,
}

impl<'r> Lookup<'r> {
    pub(crate) fn read(row: &'r str, shape: &TableShape) -> Result<Self, Error> {
        let mut fields = parse_row(row).ok_or_else(|| Error::unexpected("a key's row"))?;
        // Only the general statement knows of ancestors.
        let ancestors = if fields.len() == 20 { fields.pop().flatten() } else { None };
        let Ok(fields): Result<[_; 19], _> = fields.try_into() else {
            return Err(Error::unexpected("a key's row of other columns"));
        };
        let [
            place,
            id,
            account_id,
            name,
            user_id,
            scopes,
            delegated_by,
            period,
            budget,
            used,
            used_micro,
            reserved,
            reset_at,
            expires_at,
            seconds_left,
            revoked,
            disabled,
            expired,
            stale,
        ] = fields;
        let owned = |field: Option<std::borrow::Cow<'_, str>>| field.map(std::borrow::Cow::into_owned);
        let id = id.ok_or_else(|| Error::unexpected("a key without an id"))?;
        let budget_cents = integer(&budget)?;
        let balance = balance(budget_cents, &used, &used_micro, &reserved)?;
        let grant = Grant {
            id: read_key_id(&id, shape)?,
            account_id: account_id.map(|a| AccountId::read(&a, shape.account_is_integer())).transpose()?,
            user_id: owned(user_id),
            scopes: scopes.as_deref().map(parse_stored),
            budget_cents,
            budget_used_cents: balance.used_cents(),
            budget_used_microcents: balance.used_microcents,
            budget_reserved_cents: balance.reserved_cents(),
            budget_remaining_cents: balance.remaining_cents(),
            budget_period: owned(period),
            budget_reset_at: timestamp(reset_at.as_deref())?,
            expires_at: timestamp(expires_at.as_deref())?,
            delegated_by: owned(delegated_by),
            name: owned(name).unwrap_or_else(|| "default".to_owned()),
        };
        let own_reason = reason(&revoked, &disabled, &expired, &balance);
        let mut denial = own_reason.map(|reason| (reason, limit(reason, &grant)));
        let mut seconds_left = integer(&seconds_left)?;
        let ancestors =
            ancestors.as_deref().map(|states| read_ancestors(states, shape)).transpose()?.unwrap_or_default();
        for ancestor in &ancestors {
            if let Some(reason) = ancestor.reason
                && denial.as_ref().is_none_or(|(known, _)| reason.rank() < known.rank())
            {
                denial = Some((reason, ancestor.limit.clone()));
            }
            seconds_left = seconds_left.into_iter().chain(ancestor.seconds_left).min();
        }
        let verdict = match denial {
            None => Ok(grant),
            Some((reason, limit)) => Err(Denial { reason, limit, key: Some(Box::new(grant)) }),
        };
        Ok(Lookup {
            place: place_in_batch(place.as_deref())?,
            id,
            stale: is_true(&stale),
            verdict,
            ancestors: ancestors.into_iter().map(|ancestor| ancestor.id).collect(),
            seconds_left,
        })
    }
}

type Field<'r> = Option<std::borrow::Cow<'r, str>>;

fn is_true(field: &Field<'_>) -> bool {
    field.as_deref() == Some("t")
}

fn balance(
    budget_cents: Option<i64>,
    used: &Field<'_>,
    used_micro: &Field<'_>,
    reserved: &Field<'_>,
) -> Result<Balance, Error> {
    let used = integer(used)?
        .unwrap_or(0)
        .saturating_mul(MICROCENTS_PER_CENT)
        .saturating_add(integer(used_micro)?.unwrap_or(0));
    let reserved = integer(reserved)?.unwrap_or(0).saturating_mul(MICROCENTS_PER_CENT);
    Ok(Balance::new(budget_cents, used, reserved))
}

/// Why a row stops a key, in the order in which reasons are checked.
fn reason(
    revoked: &Field<'_>,
    disabled: &Field<'_>,
    expired: &Field<'_>,
    balance: &Balance,
) -> Option<DenialReason> {
    if is_true(revoked) {
        Some(DenialReason::Revoked)
    } else if is_true(disabled) {
        Some(DenialReason::Disabled)
    } else if is_true(expired) {
        Some(DenialReason::Expired)
    } else if balance.budget_microcents.is_some_and(|cap| balance.used_microcents >= cap) {
        Some(DenialReason::BudgetExceeded)
    } else {
        None
    }
}

/// An ancestor, as far as it bears on its descendants.
struct Ancestor {
    id: KeyId,
    reason: Option<DenialReason>,
    limit: Option<Limit>,
    seconds_left: Option<i64>,
}

/// Reads what `validate.sql` says of ancestors: an array of rows. One that was deleted stops its descendants too.
fn read_ancestors(states: &str, shape: &TableShape) -> Result<Vec<Ancestor>, Error> {
    let wrong = || Error::unexpected("an ancestor");
    let states = parse_array(states).ok_or_else(wrong)?;
    states
        .iter()
        .map(|state| {
            let fields = parse_row(state.as_deref().ok_or_else(wrong)?).ok_or_else(wrong)?;
            let Ok(fields): Result<[_; 11], _> = fields.try_into() else { return Err(wrong()) };
            let [
                id,
                exists,
                budget,
                used,
                used_micro,
                reserved,
                reset_at,
                seconds_left,
                revoked,
                disabled,
                expired,
            ] = fields;
            let id = read_key_id(id.as_deref().ok_or_else(wrong)?, shape)?;
            let budget_cents = integer(&budget)?;
            let balance = balance(budget_cents, &used, &used_micro, &reserved)?;
            let reason = match is_true(&exists) {
                true => reason(&revoked, &disabled, &expired, &balance),
                false => Some(DenialReason::Revoked),
            };
            let limit = match (reason, budget_cents) {
                (Some(DenialReason::BudgetExceeded), Some(budget_cents)) => Some(Limit {
                    key_id: id.clone(),
                    budget_cents,
                    used_cents: balance.used_cents(),
                    reserved_cents: balance.reserved_cents(),
                    resets_at: timestamp(reset_at.as_deref())?,
                }),
                _ => None,
            };
            Ok(Ancestor { id, reason, limit, seconds_left: integer(&seconds_left)? })
        })
        .collect()
}

fn limit(reason: DenialReason, grant: &Grant) -> Option<Limit> {
    grant.budget_cents.filter(|_| reason == DenialReason::BudgetExceeded).map(|budget_cents| Limit {
        key_id: grant.id.clone(),
        budget_cents,
        used_cents: grant.budget_used_cents,
        reserved_cents: grant.budget_reserved_cents,
        resets_at: grant.budget_reset_at,
    })
}

/// Ordinals count from 1.
pub(crate) fn place_in_batch(field: Option<&str>) -> Result<usize, Error> {
    field
        .and_then(|text| text.parse::<usize>().ok()?.checked_sub(1))
        .ok_or_else(|| Error::unexpected("a row without its place in the batch"))
}

pub(crate) fn integer(field: &Option<std::borrow::Cow<'_, str>>) -> Result<Option<i64>, Error> {
    field.as_deref().map(|text| text.parse().map_err(|_| Error::unexpected("a number"))).transpose()
}

/// Reads seconds since 1970 with a decimal fraction, as `extract(epoch ...)` gives them. What lies beyond every
/// calendar (infinity) reads as no time at all.
pub(crate) fn timestamp(field: Option<&str>) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(text) = field else { return Ok(None) };
    if text.ends_with("Infinity") {
        return Ok(None);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros = || {
        let padded = format!("{fraction:0<6}");
        let fraction: i64 = padded.get(..6)?.parse().ok()?;
        let whole = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
        whole.checked_add(if seconds.starts_with('-') { -fraction } else { fraction })
    };
    let micros = micros().ok_or_else(|| Error::unexpected("a timestamp"))?;
    Ok(DateTime::from_timestamp_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TableName;

    fn shape() -> TableShape {
        let rows: Vec<String> = ["id", "account_id", "key_hash", "key_prefix", "revoked_at"]
            .iter()
            .map(|c| format!("({c},bigint,bigint,f)"))
            .collect();
        TableShape::read(&TableName::default(), &rows).unwrap()
    }

    fn verdict(row: &str) -> Verdict {
        Lookup::read(row, &shape()).unwrap().verdict
    }

    #[test]
    fn a_bare_row_is_an_unlimited_grant() {
        let grant = verdict("(1,7,,,,,,,,,,,,,,f,f,f,t)").unwrap();
        assert_eq!(grant.id, KeyId::Integer(7));
        assert_eq!((grant.account_id, grant.scopes, grant.budget_remaining_cents), (None, None, None));
        assert_eq!(grant.name, "default");
    }

    #[test]
    fn reasons_are_checked_in_order() {
        let row = |revoked, disabled, expired, used| {
            format!("(1,7,42,,,,,,100,{used},0,0,,,,{revoked},{disabled},{expired},f)")
        };
        let reason = |row: String| verdict(&row).map(|_| ()).map_err(|d| d.reason);
        assert_eq!(reason(row("t", "t", "t", 100)), Err(DenialReason::Revoked));
        assert_eq!(reason(row("f", "t", "t", 100)), Err(DenialReason::Disabled));
        assert_eq!(reason(row("f", "f", "t", 100)), Err(DenialReason::Expired));
        assert_eq!(reason(row("f", "f", "f", 100)), Err(DenialReason::BudgetExceeded));
        assert_eq!(reason(row("f", "f", "f", 99)), Ok(()));
    }

    #[test]
    fn an_exceeded_budget_says_which_and_until_when() {
        let denial = verdict("(1,7,42,,,,,day,100,150,0,3,1764000000.5,,,f,f,f,f)").unwrap_err();
        let limit = denial.limit.unwrap();
        assert_eq!((limit.budget_cents, limit.used_cents, limit.reserved_cents), (100, 150, 3));
        assert_eq!(limit.resets_at.unwrap().to_rfc3339(), "2025-11-24T16:00:00.500+00:00");
        assert_eq!(denial.key.unwrap().budget_remaining_cents, Some(0));
    }

    #[test]
    fn bigint_accounts_are_text_and_a_cap_of_nothing_is_exceeded() {
        let denial = verdict("(1,7,42,,,,,,0,0,0,0,,,,f,f,f,f)").unwrap_err();
        assert_eq!(denial.key.unwrap().account_id, Some(AccountId::Text("42".to_owned())));
    }

    #[test]
    fn timestamps_read_to_the_microsecond() {
        let read = |text: &str| timestamp(Some(text)).unwrap().map(|t| t.timestamp_micros());
        assert_eq!(read("1764000000.123456"), Some(1_764_000_000_123_456));
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("-1.5"), Some(-1_500_000));
        assert_eq!(read("-0.5"), Some(-500_000));
        assert_eq!(read("Infinity"), None);
        assert!(timestamp(Some("yesterday")).is_err());
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for bad in [
            "",
            "(1)",
            "x",
            "(1,,,,,,,,,,,,,,,,,,)",
            "(0,7,,,,,,,,,,,,,,f,f,f,t)",
            "(1,x,,,,,,,,,,,,,,f,f,f,t)",
            "(1,7,,,,,,,1e3,,,,,,,f,f,f,t)",
        ] {
            assert!(Lookup::read(bad, &shape()).is_err(), "{bad}");
        }
    }
}
