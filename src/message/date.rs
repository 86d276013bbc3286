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
