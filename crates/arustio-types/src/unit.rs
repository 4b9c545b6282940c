//! Sizes and durations as people write them: `64MiB`, `10s`.
//!
//! Parsing accepts what [`std::fmt::Display`] prints, exactly; config files and
//! flags use these instead of bare numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes that reads as `4MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const DECIMAL: [(&str, u64); 4] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl ByteSize {
    /// Whole kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// Whole mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// Whole gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Rounded for people, one decimal: `1.5 GiB`.
    pub fn human(self) -> String {
        let (unit, factor) = UNITS
            .iter()
            .copied()
            .find(|(_, factor)| self.0 >= *factor)
            .unwrap_or(("B", 1));
        if self.0.is_multiple_of(factor) {
            return format!("{} {unit}", self.0 / factor);
        }
        format!("{:.1} {unit}", self.0 as f64 / factor as f64)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .iter()
            .copied()
            .find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidUnit;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let split = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(split);
        let unit = unit.trim();
        let refuse = || InvalidUnit {
            text: text.to_owned(),
            expected: "a size such as 64MiB, 10GiB or 4096",
        };
        let number: u64 = digits.parse().map_err(|_| refuse())?;
        let factor = if unit.is_empty() {
            1
        } else {
            size_factor(unit).ok_or_else(refuse)?
        };
        number.checked_mul(factor).map(ByteSize).ok_or_else(refuse)
    }
}

fn size_factor(unit: &str) -> Option<u64> {
    let short = format!("{unit}iB");
    UNITS
        .iter()
        .chain(DECIMAL.iter())
        .find(|(name, _)| name.eq_ignore_ascii_case(unit) || name.eq_ignore_ascii_case(&short))
        .map(|(_, factor)| *factor)
}

/// Parses a duration such as `10s`, `1m`, `250ms`, `2h`, `1d` or `0`.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    let trimmed = text.trim();
    let split = trimmed
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(split);
    let refuse = || InvalidUnit {
        text: text.to_owned(),
        expected: "a duration such as 10s, 1m, 250ms or 2h",
    };
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    let millis = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 1,
        _ => return Err(refuse()),
    };
    number
        .checked_mul(millis)
        .map(Duration::from_millis)
        .ok_or_else(refuse)
}

/// Prints a duration in its largest whole unit; [`parse_duration`] reads it back.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, factor) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ] {
        if millis >= factor && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// A text that is neither size nor duration, with what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {text:?}: expected {expected}")]
pub struct InvalidUnit {
    text: String,
    expected: &'static str,
}

#[cfg(feature = "serde")]
mod with_serde {
    use super::ByteSize;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    impl Serialize for ByteSize {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }

    impl<'de> Deserialize<'de> for ByteSize {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            #[derive(Deserialize)]
            #[serde(untagged)]
            enum Either {
                Number(u64),
                Text(String),
            }
            match Either::deserialize(deserializer)? {
                Either::Number(bytes) => Ok(ByteSize(bytes)),
                Either::Text(text) => text.parse().map_err(D::Error::custom),
            }
        }
    }
}

/// Durations in config files, as text: `#[serde(with = "arustio_types::unit::duration")]`.
#[cfg(feature = "serde")]
pub mod duration {
    use super::{Duration, format_duration, parse_duration};
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `10s`.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*value))
    }

    /// Reads `10s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_and_durations_of_every_form_are_read() {
        assert_eq!("64MiB".parse(), Ok(ByteSize::mib(64)));
        assert_eq!("1G".parse(), Ok(ByteSize::gib(1)));
        assert_eq!("10 kb".parse(), Ok(ByteSize(10_000)));
        assert_eq!("77".parse(), Ok(ByteSize(77)));
        assert!("".parse::<ByteSize>().is_err());
        assert!("5 lightyears".parse::<ByteSize>().is_err());
        assert!("99999999999TiB".parse::<ByteSize>().is_err());
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)));
        assert!(parse_duration("5").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in any::<u64>(), millis in 0u64..1 << 40) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
