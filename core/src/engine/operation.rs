//! Names of what callers ask for, for counters and traces.

use super::Request;

macro_rules! operations {
    ($($kind:ident => $name:literal,)*) => {
        /// What a request asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation {
            $($kind,)*
        }

        impl Operation {
            pub(super) const ALL: &[Operation] = &[$(Operation::$kind,)*];

            /// The operation's stable name, that of the methods in Rust and Python.
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Operation::$kind => $name,)*
                }
            }
        }

        impl Request {
            pub(crate) const fn kind(&self) -> Operation {
                match self {
                    $(Request::$kind { .. } => Operation::$kind,)*
                }
            }
        }
    };
}

operations! {
    Validate => "validate",
    Charge => "track_usage",
    Reserve => "reserve",
    Settle => "settle",
    Release => "release",
    Extend => "extend",
    Refund => "refund",
    SweepReservations => "sweep_reservations",
    Create => "create",
    EnsureSubject => "ensure_subject",
    Get => "get",
    Explain => "explain",
    List => "list",
    Update => "update",
    Rotate => "rotate",
    RequestIncrease => "request_increase",
    ListIncreases => "list_increases",
    DecideIncrease => "decide_increase",
    Revoke => "revoke",
    RevokeAll => "revoke_all",
    Events => "events",
    Usage => "usage",
    VerifyLedger => "verify_ledger",
    PruneEvents => "prune_events",
    ClaimDeliveries => "claim_deliveries",
    EndDelivery => "end_delivery",
    Deliveries => "deliveries",
    CountSignup => "count_signup",
    Diagnose => "diagnose",
    Migrate => "migrate",
}

impl Request {
    /// What it asks for, by the name that counters and traces use: `validate`, `track_usage`, ...
    pub const fn operation(&self) -> &'static str {
        self.kind().as_str()
    }
}
