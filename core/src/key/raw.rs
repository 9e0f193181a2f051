//! Raw keys: minting, hashing, and a type that never shows its secret.

use std::str::FromStr;
use std::sync::Arc;

use crc::{CRC_32_ISO_HDLC, Crc};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorCode, shortened};
use crate::random;

/// Random bytes in a key: 48 hexadecimal characters after the prefix.
const SECRET_BYTES: usize = 24;
/// Characters of the secret that `key_prefix` keeps, so that people can tell keys apart.
const SHOWN_CHARACTERS: usize = 8;
const MAX_PREFIX_LENGTH: usize = 64;
/// 62 to this power are more than the values of a CRC-32.
const CHECKSUM_CHARACTERS: usize = 6;

/// A raw key. Only [`RawKey::expose`] shows it: `Debug` does not, and it cannot be serialised. Its memory is zeroed when
/// it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RawKey(Zeroizing<String>);

impl RawKey {
    /// The secret itself: hand it to its owner, keep it nowhere.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the table stores of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }
}

/// What new keys look like. Keys of either form always work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeyFormat {
    /// The prefix and 48 hexadecimal characters, as the original package makes them.
    #[default]
    Plain,
    /// The same and six characters more: a checksum of all before it, so that scanners know a key from other texts, and a
    /// mistyped one costs no query.
    Checksum,
}

impl FromStr for KeyFormat {
    type Err = Error;

    /// `plain` or `checksum`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "plain" => Ok(KeyFormat::Plain),
            "checksum" => Ok(KeyFormat::Checksum),
            _ => {
                let message =
                    format!("Invalid key format: {}; it must be plain or checksum", shortened(name));
                Err(Error::new(ErrorCode::InvalidText, message))
            }
        }
    }
}

fn is_secret(text: &str) -> bool {
    text.len() == 48 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a text is a secret and what may be its checksum.
fn is_checked_secret(text: &str) -> bool {
    let parts = text.split_at_checked(48);
    parts.is_some_and(|(secret, sum)| {
        is_secret(secret)
            && sum.len() == CHECKSUM_CHARACTERS
            && sum.bytes().all(|b| b.is_ascii_alphanumeric())
    })
}

/// Whether a text has the form of a raw key, whatever its prefix.
pub(crate) fn has_secret(text: &str) -> bool {
    let ends_in = |length: usize, is_it: fn(&str) -> bool| {
        let end = text.len().checked_sub(length).and_then(|start| text.get(start..));
        end.is_some_and(is_it) && text.len() > length
    };
    ends_in(48, is_secret) || ends_in(48 + CHECKSUM_CHARACTERS, is_checked_secret)
}

/// Whether a text has the form of a key with a checksum, which is not its checksum. One that ends in 54 hexadecimal
/// characters may be another's kind of key, and is looked up: hardly a checksum looks like that.
pub(crate) fn is_mistyped(text: &str) -> bool {
    let start = text.len().checked_sub(48 + CHECKSUM_CHARACTERS);
    let Some(checked) = start.and_then(|start| text.get(start..)) else { return false };
    let (body, sum) = text.split_at(text.len() - CHECKSUM_CHARACTERS);
    let is_hexadecimal = sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_checked_secret(checked) && !is_hexadecimal && checksum(body) != sum
}

/// CRC-32 in base 62, its digits before its capitals before its small letters, as GitHub's tokens have it.
fn checksum(text: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    static CRC_32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let mut rest = CRC_32.checksum(text.as_bytes());
    let mut digits = [b'0'; CHECKSUM_CHARACTERS];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
impl RawKey {
    pub(crate) fn of_text(text: &str) -> Self {
        RawKey(Zeroizing::new(text.to_owned()))
    }
}

impl std::fmt::Debug for RawKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RawKey(<redacted>)")
    }
}

/// Lower-case hexadecimal SHA-256 of a whole raw key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(Arc<str>);

impl KeyHash {
    /// Hashes a raw key of any length and content.
    pub fn of(raw_key: &str) -> Self {
        KeyHash::from_bytes(&Sha256::digest(raw_key.as_bytes()).into())
    }

    /// The 64 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }

    /// Reads the 64 characters. `None` if no key has such a hash.
    pub fn parse(text: &str) -> Option<Self> {
        let is_hash =
            text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_hash.then(|| KeyHash(Arc::from(text)))
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut digits = [0; 64];
        // The digits are twice as many as the bytes, and ASCII: neither step can fail.
        let _ = hex::encode_to_slice(bytes, &mut digits);
        KeyHash(std::str::from_utf8(&digits).unwrap_or_default().into())
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// A new key: the secret for its owner, and what the table keeps.
#[derive(Debug, Clone)]
pub(crate) struct MintedKey {
    /// The secret.
    pub(crate) raw: RawKey,
    /// `key_prefix`: the prefix and the first eight characters after it.
    pub(crate) shown_prefix: String,
}

/// What stands before the random part of every key, such as `ak_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix(String);

impl KeyPrefix {
    /// A prefix of at most 64 visible ASCII characters (it travels in an HTTP header); it may be empty.
    pub fn new(prefix: &str) -> Result<Self, Error> {
        if prefix.len() > MAX_PREFIX_LENGTH || !prefix.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::new(
                ErrorCode::InvalidKeyPrefix,
                format!(
                    "Invalid key prefix: at most {MAX_PREFIX_LENGTH} visible ASCII characters are allowed"
                ),
            ));
        }
        Ok(KeyPrefix(prefix.to_owned()))
    }

    /// Mints a key from the operating system's random source.
    pub(crate) fn mint(&self, format: KeyFormat) -> Result<MintedKey, Error> {
        let secret = Zeroizing::new(hex::encode(random::bytes::<SECRET_BYTES>()?));
        let shown_prefix = format!("{}{}", self.0, &secret[..SHOWN_CHARACTERS]);
        let plain = Zeroizing::new(format!("{}{}", self.0, *secret));
        let raw = match format {
            KeyFormat::Plain => plain,
            KeyFormat::Checksum => Zeroizing::new(format!("{}{}", *plain, checksum(&plain))),
        };
        Ok(MintedKey { raw: RawKey(raw), shown_prefix })
    }

    /// Whether a text has the form of a raw key with this prefix.
    pub(crate) fn is_of(&self, text: &str) -> bool {
        text.strip_prefix(&self.0).is_some_and(|secret| is_secret(secret) || is_checked_secret(secret))
    }

    /// What `key_prefix` holds for an external subject, which has no key.
    pub(crate) fn for_subject(&self) -> String {
        format!("{}subject", self.0)
    }
}

impl Default for KeyPrefix {
    fn default() -> Self {
        KeyPrefix("ak_".to_owned())
    }
}

/// A `key_hash` that is the hash of no key: 32 random bytes.
pub(crate) fn unusable_hash() -> Result<KeyHash, Error> {
    Ok(KeyHash::from_bytes(&random::bytes::<32>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_has_the_contracts_form() {
        let minted = KeyPrefix::default().mint(KeyFormat::Plain).unwrap();
        let raw = minted.raw.expose();
        assert_eq!(raw.len(), 3 + 48);
        assert!(raw.starts_with("ak_"));
        assert!(raw[3..].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_eq!(minted.shown_prefix, raw[..11]);
        assert!(KeyPrefix::default().is_of(raw) && !KeyPrefix::default().is_of(&raw[1..]));
        assert!(!KeyPrefix::new("live_").unwrap().is_of(raw) && !KeyPrefix::default().is_of("ak_7"));
        assert_ne!(raw, KeyPrefix::default().mint(KeyFormat::Plain).unwrap().raw.expose());
    }

    #[test]
    fn the_hash_is_sha256_of_the_whole_key() {
        // printf ak_abc | sha256sum
        let expected = "c9bd4037eb69c4fa4fa07c6dcf551b02060637c76ec2d73846ca90eb26689246";
        assert_eq!(KeyHash::of("ak_abc").as_str(), expected);
    }

    #[test]
    fn no_secret_is_shown() {
        let minted = KeyPrefix::default().mint(KeyFormat::Plain).unwrap();
        let shown = format!("{minted:?} {:?}", minted.raw.hash());
        assert!(!shown.contains(&minted.raw.expose()[11..]));
        assert!(!shown.contains(minted.raw.hash().as_str()));
    }

    #[test]
    fn a_prefix_must_fit_a_header() {
        assert!(KeyPrefix::new("").is_ok());
        assert!(KeyPrefix::new("live_").is_ok());
        for bad in ["a b", "a\n", "é", "a\0", &"x".repeat(65)] {
            assert_eq!(KeyPrefix::new(bad).unwrap_err().code(), ErrorCode::InvalidKeyPrefix);
        }
    }

    #[test]
    fn a_checksum_tells_a_mistyped_key() {
        // python3 -c 'import zlib; print(zlib.crc32(b"ak_" + b"0" * 48))' is 100935626.
        let zeros = format!("ak_{}", "0".repeat(48));
        assert_eq!(checksum(&zeros), "06pVxy");
        assert_eq!(checksum(""), "000000");
        let minted = KeyPrefix::default().mint(KeyFormat::Checksum).unwrap();
        assert_eq!(minted.raw.expose().len(), 3 + 48 + 6);
        assert_eq!(minted.shown_prefix, minted.raw.expose()[..11]);
        let raw = format!("{zeros}06pVxy");
        assert!(KeyPrefix::default().is_of(&raw) && has_secret(&raw) && !is_mistyped(&raw));
        for at in 0..raw.len() {
            let other = if &raw[at..=at] == "0" { "1" } else { "0" };
            let mistyped = format!("{}{other}{}", &raw[..at], &raw[at + 1..]);
            assert!(is_mistyped(&mistyped), "{at}");
        }
        let plain = KeyPrefix::default().mint(KeyFormat::Plain).unwrap();
        // Keys that an application made itself, and a plain one after a prefix of hexadecimal characters.
        let (digest, hexadecimal) = ("0123456789abcdef".repeat(4), format!("facade{}", "a".repeat(48)));
        for other in [
            plain.raw.expose(),
            "",
            "ak_",
            &raw[1..50],
            "é".repeat(60).as_str(),
            &"x".repeat(57),
            &digest,
            &hexadecimal,
        ] {
            assert!(!is_mistyped(other), "{other}");
        }
    }
}
