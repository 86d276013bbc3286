//! Progress on a terminal: a bar for each mailbox that is read for the first time, a turning sign while something is waited for.
//!
//! Drawn on standard error, and only if that is a terminal that can move its cursor: anywhere else not a byte of it is written. What is
//! written beside it (log lines, output) goes through [`above`] and [`aside`], which take the bars away for that moment, so that no
//! line is torn.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::sync::LazyLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::daemon::status::{Status, duration};

/// How often is looked at what goes on, and the sign turned.
const LOOK: Duration = Duration::from_millis(250);
/// Redraws a second.
const RATE: u8 = 8;
/// Columns of a name; longer ones are cut.
const NAME_MOST: usize = 40;

static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let target = if is_shown() { ProgressDrawTarget::stderr_with_hz(RATE) } else { ProgressDrawTarget::hidden() };
    MultiProgress::with_draw_target(target)
});

/// Whether there is a terminal to draw on.
pub(super) fn is_shown() -> bool {
    static SHOWN: LazyLock<bool> = LazyLock::new(|| {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        io::stderr().is_terminal() && !is_dumb
    });
    *SHOWN
}

/// Does something that writes to the terminal, with the bars away.
pub(super) fn aside<T>(write: impl FnOnce() -> T) -> T {
    if is_shown() { BARS.suspend(write) } else { write() }
}

/// Standard error, for whole lines above the bars.
pub(super) fn above() -> impl Write {
    Above
}

struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        aside(|| io::stderr().write(bytes))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        aside(|| io::stderr().write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A bar or a sign; taken away when it is dropped.
pub(super) struct Shown(ProgressBar);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.finish_and_clear();
        BARS.remove(&self.0);
    }
}

impl Shown {
    /// So much of so much.
    pub(super) fn at(&self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

/// A turning sign and what is waited for.
pub(super) fn busy(what: &str) -> Shown {
    let bar = BARS.add(ProgressBar::new_spinner().with_message(plain(what)));
    if is_shown() {
        bar.enable_steady_tick(LOOK / 2);
    }
    Shown(bar)
}

/// A bar with a name, empty yet.
pub(super) fn bar(name: &str) -> Shown {
    let bar = ProgressBar::new(0).with_prefix(plain(name));
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {human_pos} of {human_len} {msg}");
    // The template is one of ours, and right.
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("#>-"));
    }
    Shown(BARS.add(bar))
}

/// The bars of the first readings that are under way.
#[derive(Default)]
pub(super) struct Readings(HashMap<(String, String), Shown>);

impl Readings {
    /// Brings the bars up to what is told.
    pub(super) fn show(&mut self, status: &Status) {
        if !is_shown() {
            return;
        }
        let readings =
            status.accounts.iter().flat_map(|account| account.readings.iter().map(move |reading| (account, reading)));
        let mut there = Vec::new();
        for (account, reading) in readings {
            let key = (account.address.clone(), reading.mailbox.clone());
            let shown =
                self.0.entry(key.clone()).or_insert_with(|| bar(&format!("{} {}", account.address, reading.mailbox)));
            shown.at(reading.messages, reading.of);
            let left = reading.left_seconds.map(|left| format!("messages, about {} left", duration(left.max(1))));
            shown.0.set_message(left.unwrap_or_else(|| "messages".into()));
            there.push(key);
        }
        self.0.retain(|key, _| there.contains(key));
    }
}

/// Shows the first readings for as long as it is polled.
pub(super) async fn follow(status: impl Fn() -> Status) -> Infallible {
    if !is_shown() {
        return std::future::pending().await;
    }
    let mut readings = Readings::default();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        readings.show(&status());
    }
}

/// A name from outside cannot steer the terminal, nor push the bar off it.
fn plain(text: &str) -> String {
    let words: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(NAME_MOST + 1).collect();
    if words.chars().count() <= NAME_MOST {
        return words;
    }
    words.chars().take(NAME_MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_plain_and_short() {
        assert_eq!(plain("a\x1b[2Jb\r\n"), "a?[2Jb??");
        assert_eq!(plain(&"x".repeat(500)).chars().count(), NAME_MOST);
    }
}
