//! Sizes and times as they are typed: a number with a unit behind it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Reads a size: `64MiB`, in bytes.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || "write a number and a unit: 64MiB or 2GiB".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let (_, shift) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let bytes = number.checked_mul(1 << *shift).and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(wrong)
}

/// A network, as `10.0.0.0/8`, or one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let wrong = |_| format!("{text:?} is no network; write it as 10.0.0.0/8, or as one address");
    text.parse::<IpNet>().or_else(|_| one()).map_err(wrong)
}

/// Reads a length of time: `30s`, `500ms`, `2m`, `12h` or `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and a unit: 30s, 500ms, 2m, 12h or 30d".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let unit = if unit == "min" { "m" } else { unit };
    let (_, ms) = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// A length of time that [`duration`] reads, of whole milliseconds, in the largest unit that fits.
pub(crate) fn exact_duration(time: Duration) -> String {
    let ms = time.as_millis() as u64;
    let fits = |unit: &&(&str, u64)| ms >= unit.1 && ms.is_multiple_of(unit.1);
    let (name, unit) = TIMES.iter().rev().find(fits).unwrap_or(&TIMES[0]);
    format!("{}{name}", ms / unit)
}

/// A size that [`bytes`] reads, of whole KiB, in the largest unit that fits.
pub(crate) fn exact_bytes(bytes: u64) -> String {
    let fits = |unit: &&(&str, u32)| bytes.trailing_zeros() >= unit.1;
    let (name, shift) = SIZES.iter().rev().find(fits).unwrap_or(&SIZES[0]);
    format!("{}{name}", bytes >> shift)
}

/// A size for people: `12.3 MiB`.
pub(crate) fn shown_bytes(bytes: u64) -> String {
    match SIZES.iter().rev().find(|(_, shift)| bytes >> shift > 0) {
        Some((name, shift)) => format!("{:.1} {name}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

/// Units of time, each with its milliseconds.
const TIMES: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size, each with the power of two that it is.
const SIZES: [(&str, u32); 3] = [("KiB", 10), ("MiB", 20), ("GiB", 30)];

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let split = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for exact in ["0ms", "30s", "90s", "500ms", "2m", "12h", "30d", "1500ms"] {
            assert_eq!(exact_duration(duration(exact).unwrap()), exact);
        }
        for wrong in ["", "30", "s", "-1s", "1.5s", "5 h", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("16MiB"), Ok(16 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        for exact in ["16MiB", "1GiB", "3KiB", "1025MiB"] {
            assert_eq!(exact_bytes(bytes(exact).unwrap() as u64), exact);
        }
        for wrong in ["", "16", "MiB", "-1MiB", "16MB", "99999999999GiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
