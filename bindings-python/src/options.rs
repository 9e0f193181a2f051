//! The client's options. Python has checked their types; what they may say is checked here and in the core.

use std::time::Duration;

use agentkey::engine::{
    AcceptedPeriods, Align, KeyFormat, KeyPrefix, MAX_CENTS, Rounding, TableName, Thresholds, read_duration,
};
use agentkey::{AgentKey, Builder};
use pyo3::prelude::*;

use crate::errors::{raise, wrong_value};

/// The options of a client, as keyword arguments.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct ClientOptions {
    pool_size: i64,
    table_name: String,
    key_prefix: String,
    key_format: String,
    default_expires_in: Option<String>,
    wildcards: bool,
    valid_scopes: Option<Vec<String>>,
    accepted_periods: String,
    align: String,
    ledger: bool,
    thresholds: Vec<f64>,
    expiry_notice_seconds: Option<i64>,
    stale_hold_seconds: Option<i64>,
    rounding: String,
    timeout: f64,
    settle_timeout: f64,
    max_waiting: i64,
    touch_interval_seconds: Option<i64>,
    remembered_keys: i64,
    max_cost_cents: Option<i64>,
    pooler: Option<bool>,
}

impl ClientOptions {
    /// A client's builder, the scopes that new keys may have, and how costs are rounded.
    pub(crate) fn read(self) -> PyResult<(Builder, Option<Vec<String>>, Rounding)> {
        TableName::new(&self.table_name).map_err(raise)?;
        KeyPrefix::new(&self.key_prefix).map_err(raise)?;
        Thresholds::new(self.thresholds.iter().copied()).map_err(raise)?;
        let rounding = match self.rounding.as_str() {
            "up" => Rounding::Up,
            "exact" => Rounding::Exact,
            _ => return Err(wrong_value("rounding must be \"up\" or \"exact\"")),
        };
        let most = i64::from(i32::MAX);
        let mut builder = AgentKey::builder()
            .pool_size(in_range("pool_size", self.pool_size, 1, 1_000)?)
            .table_name(&self.table_name)
            .key_prefix(&self.key_prefix)
            .accepted_periods(match self.accepted_periods.as_str() {
                "all" => AcceptedPeriods::All,
                "day_and_month" => AcceptedPeriods::DayAndMonth,
                _ => return Err(wrong_value("accepted_periods must be \"all\" or \"day_and_month\"")),
            })
            .align(match self.align.as_str() {
                "creation" => Align::Creation,
                "calendar" => Align::Calendar,
                _ => return Err(wrong_value("align must be \"creation\" or \"calendar\"")),
            })
            .ledger(self.ledger)
            .thresholds(self.thresholds)
            .rounding(rounding)
            .timeout(timeout("timeout", self.timeout)?)
            .settle_timeout(timeout("settle_timeout", self.settle_timeout)?)
            .max_waiting(in_range("max_waiting", self.max_waiting, 1, most)?)
            .touch_interval_seconds(
                self.touch_interval_seconds
                    .map(|seconds| in_range("touch_interval_seconds", seconds, 0, most))
                    .transpose()?,
            )
            .remembered_keys(in_range("remembered_keys", self.remembered_keys, 0, most)?)
            .key_format(self.key_format.parse::<KeyFormat>().map_err(raise)?)
            .wildcards(self.wildcards);
        if let Some(is_there) = self.pooler {
            builder = builder.pooler(is_there);
        }
        if let Some(cents) = self.max_cost_cents {
            builder = builder.max_cost_cents(in_range("max_cost_cents", cents, 1, MAX_CENTS)?);
        }
        if let Some(seconds) = self.expiry_notice_seconds {
            builder = builder.expiry_notice_seconds(in_range("expiry_notice_seconds", seconds, 1, most)?);
        }
        if let Some(seconds) = self.stale_hold_seconds {
            builder = builder.stale_hold_seconds(in_range("stale_hold_seconds", seconds, 1, most)?);
        }
        if let Some(lifetime) = read_duration(self.default_expires_in.as_deref()).map_err(raise)? {
            builder = builder.default_expires_in(lifetime);
        }
        if let Some(scopes) = &self.valid_scopes {
            builder = builder.valid_scopes(scopes);
        }
        Ok((builder, self.valid_scopes, rounding))
    }
}

fn timeout(name: &str, seconds: f64) -> PyResult<Duration> {
    Some(seconds)
        .filter(|seconds| (0.001..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| wrong_value(format!("{name} must be between 0.001 and 86400 seconds")))
}

/// A number between two.
pub(crate) fn in_range<T: TryFrom<i64>>(name: &str, value: i64, least: i64, most: i64) -> PyResult<T> {
    Some(value)
        .filter(|value| (least..=most).contains(value))
        .and_then(|value| value.try_into().ok())
        .ok_or_else(|| wrong_value(format!("{name} must be between {least} and {most}")))
}
