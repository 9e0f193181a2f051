//! What a look-up's row says of a key and its ancestors.

use chrono::{DateTime, Utc};

use crate::error::Error;
use crate::literal::{parse_array, parse_row};
use crate::money::{Balance, MICROCENTS_PER_CENT};
use crate::scope::parse_stored;
use crate::shape::TableShape;
use crate::verdict::{AccountId, Denial, DenialReason, Grant, KeyId, Limit, Verdict, read_key_id};

/// A row of a look-up, read.
#[expect(clippy::large_enum_variant, reason = "taken apart at once")]
pub(crate) enum LookupRow<'r> {
    Decided(Lookup<'r>),
    /// Only the general statement knows what it needs: the ancestors, or when the next period ends.
    Undecided {
        place: usize,
        has_parent: bool,
    },
}

/// What a row says.
pub(crate) struct Lookup<'r> {
    /// The place in the batch, from 0.
    pub(crate) place: usize,
    /// The id as the database wrote it.
    pub(crate) id: std::borrow::Cow<'r, str>,
    last_used_at: Option<Moment>,
    now: Moment,
    pub(crate) verdict: Verdict,
    /// The ids of its ancestors, nearest first.
    pub(crate) ancestors: Vec<KeyId>,
    /// Until it or an ancestor expires.
    pub(crate) seconds_left: Option<i64>,
}

impl<'r> LookupRow<'r> {
    /// Reads a row of `validate_one.sql`, `validate_many.sql` or `validate.sql`.
    pub(crate) fn read(row: &'r str, shape: &TableShape) -> Result<Self, Error> {
        let mut fields = parse_row(row).ok_or_else(|| Error::unexpected("a key's row"))?;
        match fields.len() {
            19 => {
                let has_parent = is_true(&fields.pop().flatten());
                let reset_at = Moment::read(fields.get(12).and_then(Option::as_deref))?;
                let now = Moment::read(fields.get(15).and_then(Option::as_deref))?;
                if has_parent || reset_at.is_some_and(|reset_at| now.is_none_or(|now| reset_at <= now)) {
                    let place = place_in_batch(fields[0].as_deref())?;
                    return Ok(LookupRow::Undecided { place, has_parent });
                }
                Lookup::of(fields, None, None, shape).map(LookupRow::Decided)
            }
            20 => {
                let ancestors = fields.pop().flatten();
                let next_reset = fields.pop().flatten();
                Lookup::of(fields, next_reset.as_deref(), ancestors.as_deref(), shape).map(LookupRow::Decided)
            }
            _ => Err(Error::unexpected("a key's row of other columns")),
        }
    }

    /// The row of the general statement.
    pub(crate) fn decided(self) -> Result<Lookup<'r>, Error> {
        match self {
            LookupRow::Decided(lookup) => Ok(lookup),
            LookupRow::Undecided { .. } => Err(Error::unexpected("a key's row without its ancestors")),
        }
    }
}

impl<'r> Lookup<'r> {
    /// `next_reset` is that of the period which begins now, if one does: nothing was used in it.
    fn of(
        fields: Vec<Field<'r>>,
        next_reset: Option<&str>,
        ancestors: Option<&str>,
        shape: &TableShape,
    ) -> Result<Self, Error> {
        let Ok(fields): Result<[_; 18], _> = fields.try_into() else {
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
            last_used_at,
            now,
            revoked,
            disabled,
        ] = fields;
        let now = Moment::read(now.as_deref())?.ok_or_else(|| Error::unexpected("no time"))?;
        let expires_at = Moment::read(expires_at.as_deref())?;
        let owned = |field: Option<std::borrow::Cow<'_, str>>| field.map(std::borrow::Cow::into_owned);
        let id = id.ok_or_else(|| Error::unexpected("a key without an id"))?;
        let budget_cents = integer(&budget)?;
        let period_used = next_reset.is_none().then_some((&used, &used_micro));
        let balance = balance(budget_cents, period_used, &reserved)?;
        let reset_at = Moment::read(next_reset.or(reset_at.as_deref()))?;
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
            budget_reset_at: reset_at.and_then(Moment::calendar),
            expires_at: expires_at.and_then(Moment::calendar),
            delegated_by: owned(delegated_by),
            name: owned(name).unwrap_or_else(|| "default".to_owned()),
        };
        let own_reason = reason(&revoked, &disabled, is_over(expires_at, now), &balance);
        let mut denial = own_reason.map(|reason| (reason, limit(reason, &grant)));
        let mut seconds_left = expires_at.and_then(|at| at.seconds_after(now));
        let ancestors =
            ancestors.map(|states| read_ancestors(states, now, shape)).transpose()?.unwrap_or_default();
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
            last_used_at: Moment::read(last_used_at.as_deref())?,
            now,
            verdict,
            ancestors: ancestors.into_iter().map(|ancestor| ancestor.id).collect(),
            seconds_left,
        })
    }
}

impl Lookup<'_> {
    /// Whether its last use was noted longer ago than so many seconds.
    pub(crate) fn is_stale(&self, seconds: u32) -> bool {
        let since = self.now.0.saturating_sub(i64::from(seconds) * 1_000_000);
        self.last_used_at.is_none_or(|at| at.0 < since)
    }
}

type Field<'r> = Option<std::borrow::Cow<'r, str>>;

fn is_true(field: &Field<'_>) -> bool {
    field.as_deref() == Some("t")
}

/// `used` is cents and micro-cents; nothing if a period begins.
fn balance(
    budget_cents: Option<i64>,
    used: Option<(&Field<'_>, &Field<'_>)>,
    reserved: &Field<'_>,
) -> Result<Balance, Error> {
    let used = match used {
        Some((cents, microcents)) => integer(cents)?
            .unwrap_or(0)
            .saturating_mul(MICROCENTS_PER_CENT)
            .saturating_add(integer(microcents)?.unwrap_or(0)),
        None => 0,
    };
    let reserved = integer(reserved)?.unwrap_or(0).saturating_mul(MICROCENTS_PER_CENT);
    Ok(Balance::new(budget_cents, used, reserved))
}

/// Why a row stops a key, in the order in which reasons are checked.
fn reason(
    revoked: &Field<'_>,
    disabled: &Field<'_>,
    is_expired: bool,
    balance: &Balance,
) -> Option<DenialReason> {
    if is_true(revoked) {
        Some(DenialReason::Revoked)
    } else if is_true(disabled) {
        Some(DenialReason::Disabled)
    } else if is_expired {
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
fn read_ancestors(states: &str, now: Moment, shape: &TableShape) -> Result<Vec<Ancestor>, Error> {
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
                expires_at,
                revoked,
                disabled,
                next_reset,
            ] = fields;
            let expires_at = Moment::read(expires_at.as_deref())?;
            let id = read_key_id(id.as_deref().ok_or_else(wrong)?, shape)?;
            let budget_cents = integer(&budget)?;
            let period_used = next_reset.is_none().then_some((&used, &used_micro));
            let balance = balance(budget_cents, period_used, &reserved)?;
            let reason = match is_true(&exists) {
                true => reason(&revoked, &disabled, is_over(expires_at, now), &balance),
                false => Some(DenialReason::Revoked),
            };
            let limit = match (reason, budget_cents) {
                (Some(DenialReason::BudgetExceeded), Some(budget_cents)) => Some(Limit {
                    key_id: id.clone(),
                    budget_cents,
                    used_cents: balance.used_cents(),
                    reserved_cents: balance.reserved_cents(),
                    resets_at: timestamp(next_reset.as_deref().or(reset_at.as_deref()))?,
                }),
                _ => None,
            };
            Ok(Ancestor { id, reason, limit, seconds_left: expires_at.and_then(|at| at.seconds_after(now)) })
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

/// A time of the database: microseconds since 1970. Its infinities are the first and the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(i64);

impl Moment {
    const EVER: Moment = Moment(i64::MAX);
    const NEVER: Moment = Moment(i64::MIN);

    /// Reads seconds since 1970 with a decimal fraction, as `extract(epoch ...)` gives them.
    fn read(field: Option<&str>) -> Result<Option<Self>, Error> {
        match field {
            None => Ok(None),
            Some("Infinity") => Ok(Some(Moment::EVER)),
            Some("-Infinity") => Ok(Some(Moment::NEVER)),
            Some(text) => microseconds(text).map(|micros| Some(Moment(micros))),
        }
    }

    /// What lies beyond every calendar is no time at all.
    fn calendar(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.0)
    }

    /// Whole seconds, rounded down; `None` if one of them is infinite.
    fn seconds_after(self, other: Moment) -> Option<i64> {
        let is_finite = |moment: Moment| !matches!(moment, Moment::EVER | Moment::NEVER);
        (is_finite(self) && is_finite(other)).then(|| self.0.saturating_sub(other.0).div_euclid(1_000_000))
    }
}

fn is_over(time: Option<Moment>, now: Moment) -> bool {
    time.is_some_and(|time| time <= now)
}

pub(crate) fn timestamp(field: Option<&str>) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(Moment::read(field)?.and_then(Moment::calendar))
}

fn microseconds(text: &str) -> Result<i64, Error> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let micros = || {
        let padded = format!("{fraction:0<6}");
        let fraction: i64 = padded.get(..6)?.parse().ok()?;
        let whole = seconds.parse::<i64>().ok()?.checked_mul(1_000_000)?;
        whole.checked_add(if seconds.starts_with('-') { -fraction } else { fraction })
    };
    micros().ok_or_else(|| Error::unexpected("a timestamp"))
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
        LookupRow::read(row, &shape()).and_then(LookupRow::decided).unwrap().verdict
    }

    #[test]
    fn a_bare_row_is_an_unlimited_grant() {
        let grant = verdict("(1,7,,,,,,,,,,,,,,1764000000,f,f,f)").unwrap();
        assert_eq!(grant.id, KeyId::Integer(7));
        assert_eq!((grant.account_id, grant.scopes, grant.budget_remaining_cents), (None, None, None));
        assert_eq!(grant.name, "default");
    }

    #[test]
    fn reasons_are_checked_in_order() {
        let row = |revoked, disabled, expired, used| {
            format!("(1,7,42,,,,,,100,{used},0,0,,{expired},,1764000000,{revoked},{disabled},f)")
        };
        let reason = |row: String| verdict(&row).map(|_| ()).map_err(|d| d.reason);
        assert_eq!(reason(row("t", "t", "1764000000", 100)), Err(DenialReason::Revoked));
        assert_eq!(reason(row("f", "t", "1764000000", 100)), Err(DenialReason::Disabled));
        assert_eq!(reason(row("f", "f", "1764000000", 100)), Err(DenialReason::Expired));
        assert_eq!(reason(row("f", "f", "1764000000.000001", 100)), Err(DenialReason::BudgetExceeded));
        assert_eq!(reason(row("f", "f", "", 99)), Ok(()));
        assert_eq!(reason(row("f", "f", "-Infinity", 0)), Err(DenialReason::Expired));
        assert_eq!(reason(row("f", "f", "Infinity", 0)), Ok(()));
    }

    #[test]
    fn an_exceeded_budget_says_which_and_until_when() {
        let denial =
            verdict("(1,7,42,,,,,day,100,150,0,3,1764000000.5,,,1764000000.499999,f,f,f)").unwrap_err();
        let limit = denial.limit.unwrap();
        assert_eq!((limit.budget_cents, limit.used_cents, limit.reserved_cents), (100, 150, 3));
        assert_eq!(limit.resets_at.unwrap().to_rfc3339(), "2025-11-24T16:00:00.500+00:00");
        assert_eq!(denial.key.unwrap().budget_remaining_cents, Some(0));
    }

    #[test]
    fn bigint_accounts_are_text_and_a_cap_of_nothing_is_exceeded() {
        let denial = verdict("(1,7,42,,,,,,0,0,0,0,,,,1764000000,f,f,f)").unwrap_err();
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
    fn what_a_plain_row_cannot_tell_is_left_to_the_general_statement() {
        let undecided = |reset_at, has_parent| {
            let row = format!("(4,7,,,,,,day,100,5,0,0,{reset_at},,,1764000000,f,f,{has_parent})");
            match LookupRow::read(&row, &shape()).unwrap() {
                LookupRow::Undecided { place, has_parent } => Some((place, has_parent)),
                LookupRow::Decided(_) => None,
            }
        };
        assert_eq!(undecided("1764000000", "f"), Some((3, false)));
        assert_eq!(undecided("-Infinity", "f"), Some((3, false)));
        assert_eq!(undecided("", "t"), Some((3, true)));
        assert_eq!(undecided("1764000000.000001", "f"), None);
        assert_eq!(undecided("Infinity", "f"), None);
        assert_eq!(undecided("", "f"), None);
    }

    #[test]
    fn a_period_that_begins_is_unused_and_ends_with_the_next_reset() {
        let grant = verdict("(1,7,,,,,,day,100,100,9,3,1763900000,,,1764000000,f,f,1764080000,)").unwrap();
        assert_eq!((grant.budget_used_cents, grant.budget_remaining_cents), (0, Some(97)));
        assert_eq!(grant.budget_reset_at.unwrap().timestamp(), 1_764_080_000);
    }

    #[test]
    fn an_old_last_use_is_stale() {
        let is_stale = |last_used_at| {
            let row = format!("(1,7,,,,,,,,,,,,,{last_used_at},1764000060,f,f,f)");
            LookupRow::read(&row, &shape()).and_then(LookupRow::decided).unwrap().is_stale(60)
        };
        assert!(is_stale("") && is_stale("1763999999.999999") && is_stale("-Infinity"));
        assert!(!is_stale("1764000000") && !is_stale("Infinity"));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for bad in [
            "",
            "(1)",
            "x",
            "(1,,,,,,,,,,,,,,,1764000000,f,f,f)",
            "(0,7,,,,,,,,,,,,,,1764000000,f,f,f)",
            "(1,x,,,,,,,,,,,,,,1764000000,f,f,f)",
            "(1,7,,,,,,,1e3,,,,,,,1764000000,f,f,f)",
            "(1,7,,,,,,,,,,,,,,,f,f,f)",
        ] {
            assert!(LookupRow::read(bad, &shape()).is_err(), "{bad}");
        }
    }
}
