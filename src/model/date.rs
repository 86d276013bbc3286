//! INTERNALDATE: an instant with the zone it was stated in.

use std::fmt;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A message's internal date (RFC 9051 §2.3.3): seconds since the Unix epoch and the zone upstream wrote it in,
/// kept so that every client is told the same text the upstream would tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InternalDate {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Minutes east of UTC, -1439 to 1439.
    pub zone: i16,
}

impl InternalDate {
    /// Reads `dd-Mon-yyyy hh:mm:ss +zzzz` (RFC 9051 `date-time`, without its quotes); tolerates a one-digit or
    /// space-padded day, any case of the month, a leap second, and a missing zone (taken as UTC).
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let mut date = words.next()?.split('-');
        let day: u32 = date.next()?.parse().ok()?;
        let month = month_number(date.next()?)?;
        let year: i64 = date.next()?.parse().ok()?;
        let mut clock = words.next()?.split(':');
        let hour: i64 = clock.next()?.parse().ok()?;
        let minute: i64 = clock.next()?.parse().ok()?;
        let second: i64 = clock.next()?.parse().ok()?;
        let zone = match words.next() {
            Some(zone) => parse_zone(zone)?,
            None => 0,
        };
        if !(1..=days_in_month(year, month)).contains(&day)
            || !(0..=9999).contains(&year)
            || !(0..24).contains(&hour)
            || !(0..60).contains(&minute)
            || !(0..=60).contains(&second)
        {
            return None;
        }
        let local = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second.min(59);
        Some(Self { seconds: local - i64::from(zone) * 60, zone })
    }

    /// Days since the epoch of the date as written, disregarding time and zone: what SEARCH BEFORE/ON/SINCE
    /// compare (RFC 9051 §6.4.4).
    pub fn local_day(&self) -> i64 {
        (self.seconds + i64::from(self.zone) * 60).div_euclid(86_400)
    }

    /// Days since the epoch of a calendar date (month 1 to 12).
    pub fn day_of(year: i64, month: u32, day: u32) -> i64 {
        days_from_civil(year, month, day)
    }
}

impl InternalDate {
    /// What [`Display`](fmt::Display) writes, without its cost: this is told for every message of a mailbox.
    pub fn text(&self) -> [u8; 26] {
        let local = self.seconds + i64::from(self.zone) * 60;
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let zone = i64::from(self.zone.unsigned_abs());
        let digit = |number: i64| b'0' + (number % 10) as u8;
        let (day, year) = (i64::from(day), year.clamp(0, 9999));
        let tens = if day < 10 { b' ' } else { digit(day / 10) };
        let month = MONTHS.get((month as usize).saturating_sub(1)).map_or(*b"Jan", |name| {
            let mut bytes = name.bytes();
            [(); 3].map(|()| bytes.next().unwrap_or(b' '))
        });
        let [m1, m2, m3] = month;
        let [y1, y2, y3, y4] = [year / 1000, year / 100, year / 10, year].map(digit);
        let [h1, h2, i1, i2] = [second / 36_000, second / 3600, second % 3600 / 600, second % 3600 / 60].map(digit);
        let [s1, s2] = [second % 60 / 10, second % 60].map(digit);
        let sign = if self.zone < 0 { b'-' } else { b'+' };
        let [z1, z2, z3, z4] = [zone / 600, zone / 60, zone % 60 / 10, zone % 60].map(digit);
        #[rustfmt::skip]
        let text = [
            tens, digit(day), b'-', m1, m2, m3, b'-', y1, y2, y3, y4, b' ',
            h1, h2, b':', i1, i2, b':', s1, s2, b' ', sign, z1, z2, z3, z4,
        ];
        text
    }
}

impl fmt::Display for InternalDate {
    /// `dd-Mon-yyyy hh:mm:ss +zzzz` with a space-padded day, as in a FETCH response, without the quotes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.zone) * 60;
        let (year, month, day) = civil_from_days(local.div_euclid(86_400));
        let second = local.rem_euclid(86_400);
        let sign = if self.zone < 0 { '-' } else { '+' };
        let zone = self.zone.unsigned_abs();
        let month = MONTHS[(month as usize).saturating_sub(1) % 12];
        write!(
            f,
            "{day:2}-{month}-{year:04} {:02}:{:02}:{:02} {sign}{:02}{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60,
            zone / 60,
            zone % 60
        )
    }
}

fn month_number(name: &str) -> Option<u32> {
    let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
    u32::try_from(index + 1).ok()
}

fn parse_zone(zone: &str) -> Option<i16> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return matches!(zone, "GMT" | "UT" | "UTC" | "Z").then_some(0),
    };
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: i16 = digits.parse().ok()?;
    let (hours, minutes) = (number / 100, number % 100);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch of a proleptic Gregorian date (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = i64::from((month + 9) % 12);
    let day_of_year = (153 * shifted + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted + 2) / 5 + 1) as u32;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_the_round_trip() {
        for text in [
            "17-Jul-1996 02:44:25 -0700",
            " 1-Jan-1970 00:00:00 +0000",
            "29-Feb-2024 23:59:59 +0530",
            "31-Dec-1969 23:59:59 -1145",
            "28-Feb-1900 12:00:00 +0000",
        ] {
            let date = InternalDate::parse(text).unwrap();
            assert_eq!(date.to_string(), text);
            assert_eq!(std::str::from_utf8(&date.text()), Ok(text));
        }
        assert_eq!(InternalDate::parse("17-Jul-1996 02:44:25 -0700").unwrap().seconds, 837_596_665);
    }

    #[test]
    fn both_spellings_agree() {
        let mut seed = 5u64;
        for _ in 0..5000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // 1900 to 2200.
            let date = InternalDate {
                seconds: (seed >> 20) as i64 % 9_466_848_000 - 2_208_988_800,
                zone: (seed % 2879) as i16 - 1439,
            };
            assert_eq!(std::str::from_utf8(&date.text()), Ok(date.to_string().as_str()), "{date:?}");
        }
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in ["31-Feb-2024 00:00:00 +0000", "1-Foo-2024 00:00:00 +0000", "1-Jan-2024 24:00:00 +0000", "", "x"] {
            assert_eq!(InternalDate::parse(text), None, "{text}");
        }
        assert!(InternalDate::parse("1-jan-2024 00:00:60 GMT").is_some());
    }
}
