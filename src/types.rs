//! The words that all modules share: ids, times and places, each with a type of its own, parsed once at the border.

use std::fmt;

/// When it happened, by the producer's clock: milliseconds since the Unix epoch, UTC; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(i64);

impl EventTime {
    /// A time before 1970 is no event time.
    pub fn parse(ms: i64) -> Option<Self> {
        (ms >= 0).then_some(Self(ms))
    }

    pub fn ms(self) -> i64 {
        self.0
    }
}

/// A point on the line of event time, computed from event times and durations: [`Moment::NEVER`] lies before all of
/// them, [`Moment::INFINITY`] after. Event times lie below 2^63 and durations below [`Moment::DURATION_MAX`], so that
/// the sums of the session rules (a time and up to two durations) cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    pub const NEVER: Self = Self(0);
    pub const INFINITY: Self = Self(u64::MAX);
    /// The longest duration in milliseconds that a rule may have.
    pub const DURATION_MAX: u64 = 1 << 61;

    /// NEVER stays NEVER, INFINITY stays INFINITY.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        debug_assert!(ms <= Self::DURATION_MAX);
        if self == Self::NEVER { self } else { Self(self.0.saturating_add(ms)) }
    }

    /// The moment one millisecond earlier.
    #[must_use]
    pub fn just_before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// For records and arithmetic: milliseconds since the epoch, `None` for NEVER; beyond the range of a signed 64-bit
    /// number its largest value.
    pub fn ms(self) -> Option<i64> {
        self.0.checked_sub(1).map(|ms| i64::try_from(ms).unwrap_or(i64::MAX))
    }

    /// The bits, for storage.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl From<EventTime> for Moment {
    fn from(time: EventTime) -> Self {
        Self(time.0.unsigned_abs() + 1)
    }
}

/// Milliseconds since the process started, monotonic: for waiting, never for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub u64);

/// The limit of ids, names and channels in bytes; a longer one is rejected.
pub const NAME_BYTES_MAX: usize = 256;

/// Who clicked: 1 to [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerId(std::sync::Arc<str>);

impl CustomerId {
    /// The empty string and over-long keys name no customer.
    pub fn parse(key: &str) -> Option<Self> {
        CustomerRef::parse(key).map(Self::from)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn by_ref(&self) -> CustomerRef<'_> {
        CustomerRef(&self.0)
    }
}

/// Maps of customers are asked by name.
impl std::borrow::Borrow<str> for CustomerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A [`CustomerId`] where it stands in a record, without memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerRef<'a>(&'a str);

impl<'a> CustomerRef<'a> {
    /// The empty string and over-long keys name no customer.
    pub fn parse(key: &'a str) -> Option<Self> {
        (!key.is_empty() && key.len() <= NAME_BYTES_MAX).then_some(Self(key))
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl From<CustomerRef<'_>> for CustomerId {
    fn from(customer: CustomerRef<'_>) -> Self {
        Self(customer.0.into())
    }
}

impl fmt::Display for CustomerRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `name@version` of a model bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId(std::sync::Arc<str>);

impl ModelId {
    pub fn new(name: &str, version: &str) -> Self {
        Self(format!("{name}@{version}").into())
    }

    /// Back from a record: a name and a version, neither empty.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, version) = text.rsplit_once('@')?;
        (!name.is_empty() && !version.is_empty()).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The place of one input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

impl Position {
    pub fn resume_after(self) -> ResumeAt {
        ResumeAt(self.offset + 1)
    }
}

/// The offset to read next: one more than that of the last record done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResumeAt(pub i64);

/// What a click is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClickKind {
    Login,
    Logout,
    PageView,
    Action,
}

impl ClickKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Logout => "LOGOUT",
            Self::PageView => "PAGE_VIEW",
            Self::Action => "ACTION",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "LOGIN" => Some(Self::Login),
            "LOGOUT" => Some(Self::Logout),
            "PAGE_VIEW" => Some(Self::PageView),
            "ACTION" => Some(Self::Action),
            _ => None,
        }
    }
}

/// How a session came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpenedBy {
    Login,
    /// Its first event was no LOGIN.
    Implicit,
    /// It goes on, within the gap, after one that a limit closed.
    Continued,
}

impl OpenedBy {
    pub const ALL: [Self; 3] = [Self::Login, Self::Implicit, Self::Continued];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Login => "LOGIN",
            Self::Implicit => "IMPLICIT",
            Self::Continued => "CONTINUED",
        }
    }
}

/// Why a session closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    Logout,
    /// A LOGIN came on its key.
    Relogin,
    Gap,
    DurationMax,
    EventsMax,
    /// The customer had too many open ones, and it was the longest silent.
    Evicted,
}

impl CloseReason {
    pub const ALL: [Self; 6] =
        [Self::Logout, Self::Relogin, Self::Gap, Self::DurationMax, Self::EventsMax, Self::Evicted];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "LOGOUT",
            Self::Relogin => "RELOGIN",
            Self::Gap => "GAP",
            Self::DurationMax => "DURATION_MAX",
            Self::EventsMax => "EVENTS_MAX",
            Self::Evicted => "EVICTED",
        }
    }

    /// Closed by a limit: what follows within the gap goes on with the same session.
    pub fn is_limit(self) -> bool {
        matches!(self, Self::DurationMax | Self::EventsMax | Self::Evicted)
    }
}

/// Why a record became no part of a session. In the order in which the rules are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// The bytes are no click, or an id, name or channel is too long.
    Decode,
    /// The record's key is null or not the value's customer.
    Key,
    /// The customer is missing, empty or too long.
    Customer,
    /// The event time lies beyond the record's timestamp by more than `session.future_max`.
    Future,
    /// Not after what is already frozen on its session key.
    Late,
    /// Already there; counted, never published.
    Duplicate,
    /// The session takes no more: `events_max` or `revisions_max`.
    Full,
}

impl RejectReason {
    pub const ALL: [Self; 7] =
        [Self::Decode, Self::Key, Self::Customer, Self::Future, Self::Late, Self::Duplicate, Self::Full];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Key => "key",
            Self::Customer => "customer",
            Self::Future => "future",
            Self::Late => "late",
            Self::Duplicate => "duplicate",
            Self::Full => "full",
        }
    }
}

/// FNV-1a, 64 bits: the hash of the model contract and of remembered keys. Stable for ever, since states hold it.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    fnv1a64_on(FNV_OF_NOTHING, bytes)
}

/// The hash of no bytes.
pub const FNV_OF_NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of what the hash is of, and these bytes behind it.
pub fn fnv1a64_on(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// RFC 4648, padded: for bytes in JSON and for logins.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() { char::from(DIGITS[index as usize]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }
}
