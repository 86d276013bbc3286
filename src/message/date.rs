//! The Date field as SEARCH SENTON and its like compare it: the calendar day as written, without time and zone
//! (RFC 9051 §6.4.4).

use super::header::{fields, unfold};
use super::token::Cursor;
use crate::model::InternalDate;

/// Days since 1970-01-01 of the message's first Date as written; nothing if there is none or it makes no sense.
///
/// Dovecot lets such a message match as if sent on day 0.
pub fn sent_day(header: &[u8]) -> Option<i64> {
    let field = fields(header).find(|field| field.is("Date"))?;
    day(&unfold(field.value))
}

/// Seconds since the epoch of the message's first Date; a time that cannot be read is midnight, a zone UTC (RFC 5256 §2.2). Nothing if
/// there is no day.
pub(super) fn sent_seconds(header: &[u8]) -> Option<i64> {
    let value = unfold(fields(header).find(|field| field.is("Date"))?.value);
    let day = day(&value)?;
    let text = String::from_utf8_lossy(&value);
    let mut words = text.split_ascii_whitespace().skip_while(|word| !word.contains(':'));
    let time = words.next().and_then(clock).unwrap_or(0);
    let zone = words.next().map_or(0, zone);
    Some(day * 86_400 + time - zone)
}

/// `10:00` or `10:00:59`, as seconds of the day.
fn clock(word: &str) -> Option<i64> {
    let mut parts = word.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().flatten().unwrap_or(0);
    let fits = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    fits.then_some(hour * 3600 + minute * 60 + second)
}

/// Seconds east of UTC of `-0800` or of an obsolete name (RFC 5322 §4.3); what is neither is UTC.
fn zone(word: &str) -> i64 {
    let named =
        [("EDT", -4), ("EST", -5), ("CDT", -5), ("CST", -6), ("MDT", -6), ("MST", -7), ("PDT", -7), ("PST", -8)];
    if let Some((_, hours)) = named.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)) {
        return hours * 3600;
    }
    let (sign, digits) = match word.split_at_checked(1) {
        Some(("+", digits)) => (1, digits),
        Some(("-", digits)) => (-1, digits),
        _ => return 0,
    };
    match digits.parse::<i64>() {
        Ok(hhmm) if digits.len() == 4 => sign * (hhmm / 100 * 3600 + hhmm % 100 * 60),
        _ => 0,
    }
}

/// `[Wed,] 17 Jul 1996 …`, comments anywhere, years of two and three digits (RFC 5322 §4.3), `17-Jul-96` as well.
fn day(value: &[u8]) -> Option<i64> {
    let mut words = Words(Cursor::new(value));
    let mut word = words.next()?;
    if word.first().is_some_and(u8::is_ascii_alphabetic) {
        word = words.next()?;
    }
    let day = number(word)?;
    let name = words.next()?.get(..3)?;
    let month = (1..).zip(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]);
    let month: u32 = month.into_iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()))?.0;
    let year = words.next()?;
    let year = match (year.len(), i64::from(number(year)?)) {
        (2, year @ ..50) => year + 2000,
        (2 | 3, year) => year + 1900,
        (4, year) => year,
        _ => return None,
    };
    let first = InternalDate::day_of(year, month, 1);
    let next =
        if month == 12 { InternalDate::day_of(year + 1, 1, 1) } else { InternalDate::day_of(year, month + 1, 1) };
    let day = first + i64::from(day.checked_sub(1)?);
    (day < next).then_some(day)
}

fn number(word: &[u8]) -> Option<u32> {
    (word.len() <= 4 && word.iter().all(u8::is_ascii_digit)).then(|| std::str::from_utf8(word).ok()?.parse().ok())?
}

/// Runs of letters and digits, with anything else between them.
struct Words<'a>(Cursor<'a>);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            self.0.blanks();
            self.0.peek()?;
            let word = self.0.alphanumeric();
            if !word.is_empty() {
                return Some(word);
            }
            self.0.skip();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (value, want) in [
            ("Thu, 1 Jan 1970 00:00:00 +0000", Some(0)),
            ("1 Jan 1970 01:00 +0100 (x)", Some(0)),
            ("1 Jan 1970 00:00:01 PST", Some(8 * 3600 + 1)),
            ("1 Jan 1970 00:00:01 nowhere", Some(1)),
            ("2 Jan 1970 99:00:00 +0000", Some(86_400)),
            ("2 Jan 1970", Some(86_400)),
            ("32 Jan 1970 00:00:00 +0000", None),
        ] {
            assert_eq!(sent_seconds(format!("Date: {value}\r\n\r\n").as_bytes()), want, "{value}");
        }
    }

    #[test]
    fn days_as_written() {
        let jul17 = InternalDate::day_of(1996, 7, 17);
        for (value, want) in [
            ("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)", Some(jul17)),
            ("17 Jul 1996 23:59:59 +1400", Some(jul17)),
            ("(c) Wed (x) , 17 (y) jul 96 1:2", Some(jul17)),
            ("17-Jul-96", Some(jul17)),
            ("Thu, 29 Feb 2024 00:00 +0000", Some(InternalDate::day_of(2024, 2, 29))),
            ("29 Feb 2023 00:00 +0000", None),
            ("0 Jan 2023", None),
            ("Foo", None),
            ("", None),
            ("99999 Jul 1996", None),
        ] {
            assert_eq!(sent_day(format!("Date: {value}\r\n\r\n").as_bytes()), want, "{value}");
        }
    }
}
