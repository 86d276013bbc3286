//! `mailweir demo`: all of it without an account.
//!
//! A provider is simulated inside the process, on a loopback port of its own, with Gmail's limits and a year of made-up mail; the
//! real daemon stands in front of it, as `mailweir run` would have it. What to type into a mail program is printed, then a line for
//! whatever happens, until Ctrl-C. `--compare` plays the difference the daemon makes and ends.

mod client;
mod compare;
mod stage;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::{fail, progress};
use crate::config::Prefetch;
use crate::daemon::simulated::{Event, Scenario};
use crate::provider;
use compare::Comparison;
use stage::{CONNECTIONS, PASSWORD, Ports, Stage, USER};

/// How often the number of mail programs is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// `--for` at most: a year. Beyond it clocks overflow.
const LONGEST: u64 = 31_536_000;

#[derive(Debug, Args)]
#[command(long_about = LONG)]
pub(super) struct Demo {
    /// Let 20 mail programs read at the provider directly, then through mailweir, print both outcomes and end: exit status 0 if
    /// mailweir served them all.
    #[arg(long, conflicts_with = "provider")]
    compare: bool,
    /// A new message arrives every so many seconds; 0 for none.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=LONGEST))]
    every: u64,
    /// End by itself after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=LONGEST))]
    duration: Option<u64>,
    /// Use this directory for cache and certificates and leave it there, so that mail programs need to learn the certificate once.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Port for IMAP with STARTTLS; 0 takes a free one, here and below.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    imap: u16,
    /// Port for IMAP over TLS.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    imaps: u16,
    /// Port for POP3 with STLS.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pop3: u16,
    /// Port for POP3 over TLS.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pop3s: u16,
    /// Port for the status page.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    http: u16,
    /// Whose manners the simulated provider has: gmail, outlook, office365, yahoo, aol, yandex, mailru,
    /// icloud or fastmail.
    #[arg(long, value_name = "NAME", default_value = "gmail", value_parser = scenario)]
    provider: String,
    /// Port of the simulated provider, to look at it directly.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    provider_port: u16,
}

/// A scenario by name, or the names there are.
fn scenario(name: &str) -> Result<String, String> {
    Scenario::named(name).map(|scenario| scenario.name.to_owned()).ok_or_else(|| {
        let known: Vec<_> = Scenario::all().iter().map(|scenario| scenario.name).collect();
        format!("not simulated; there are {}", known.join(", "))
    })
}

const LONG: &str = "\
Show what mailweir does, without an account.

A mail provider is simulated inside this process: it has Gmail's limit of 15 connections, its folders and labels, and a year of \
made-up mail, and something new arrives every minute (--provider simulates another one's manners and oddities). The real daemon runs in front of it. Connect as many mail programs as you \
like to the ports that are printed, and watch how few connections the provider sees.

Everything listens on this computer only and ends with Ctrl-C; nothing is left behind (but see --keep). With --compare it plays \
the difference by itself and prints a table.";

impl Demo {
    pub(super) async fn run(self) -> ExitCode {
        let mut stop = match signals::Stop::listen() {
            Ok(stop) => stop,
            Err(error) => return fail(&format!("cannot listen for signals: {error}")),
        };
        if self.compare {
            // Both halves end by themselves within seconds; who does not want to wait drops everything, the directory included.
            return tokio::select! {
                code = self.compare() => code,
                () = stop.told() => ExitCode::FAILURE,
            };
        }
        let busy = progress::busy("Filling a simulated provider with a year of mail");
        let stage = match stage::provider(self.scenario(), self.ports()) {
            Ok(provider) => Stage::set(provider, self.ports(), self.keep.as_deref(), Prefetch::Days(30)).await,
            Err(words) => Err(words),
        };
        drop(busy);
        let stage = match stage {
            Ok(stage) => stage,
            Err(words) => return fail(&words),
        };
        let ended = tokio::select! {
            ended = self.show(&stage) => ended,
            () = stop.told() => say("\nStopping.\n"),
        };
        stage.strike().await;
        match ended {
            // Whoever read our output has gone: `mailweir demo | head` is no failure.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write: {error}")),
            _ => ExitCode::SUCCESS,
        }
    }

    fn scenario(&self) -> Scenario {
        // Checked when the arguments were read.
        Scenario::named(&self.provider).unwrap_or_else(Scenario::gmail)
    }

    fn ports(&self) -> Ports {
        let Self { imap, imaps, pop3, pop3s, http, provider_port, .. } = *self;
        Ports { imap, imaps, pop3, pop3s, http, provider: provider_port }
    }

    async fn compare(&self) -> ExitCode {
        match Comparison::run(self.ports(), self.keep.as_deref()).await {
            Ok(comparison) => match say(&comparison.to_string()) {
                Ok(()) if comparison.holds() => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            },
            Err(words) => fail(&words),
        }
    }

    /// Prints the screen, then what happens, until `--for` is over.
    async fn show(&self, stage: &Stage) -> io::Result<()> {
        let mut events = stage.provider.events();
        say(&screen(stage, self.every))?;
        let started = Instant::now();
        let end = started + Duration::from_secs(self.duration.unwrap_or(LONGEST));
        let every = Duration::from_secs(if self.every == 0 { LONGEST } else { self.every });
        let mut mail = interval_at(started + every, every);
        mail.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval_at(started + LOOK, LOOK);
        let mut arrived = 0;
        let mut shown = (0, 0);
        let mut readings = progress::Readings::default();
        let most = stage.provider.scenario().connections;
        loop {
            tokio::select! {
                () = sleep_until(end) => return Ok(()),
                _ = mail.tick() => {
                    stage.provider.deliver(arrived);
                    arrived += 1;
                }
                _ = look.tick() => {
                    let status = stage.daemon.status();
                    readings.show(&status);
                    let now = (status.sessions, stage.provider.connections());
                    if now != shown {
                        shown = now;
                        say(&used(now, most))?;
                    }
                }
                event = events.recv() => match event {
                    Ok(Event::Arrived { from, subject }) => say(&arrival(&from, &subject))?,
                    Ok(Event::Refused) => say(&format!("provider  refused a connection: {most} of {most} are used\n"))?,
                    // Many small steps make one line: see the look.
                    Ok(Event::Connections(_)) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return Ok(()),
                },
            }
        }
    }
}

fn used((sessions, connections): (u64, usize), most: usize) -> String {
    let programs = if sessions == 1 { "connection" } else { "connections" };
    format!("now       {sessions} {programs} from mail programs; the provider sees {connections} of {most}\n")
}

fn arrival(from: &str, subject: &str) -> String {
    // The name without the address, as mail programs show it.
    let name = from.split('<').next().unwrap_or_default().trim().trim_matches('"');
    format!("new mail  {name}: {subject}\n")
}

/// Everything to type into a mail program.
fn screen(stage: &Stage, every: u64) -> String {
    let port = |key: &str| stage.listener(key).map_or(0, |address| address.port());
    let [imap, imaps, pop3, pop3s, http] = ["imap", "imaps", "pop3", "pop3s", "http"].map(port);
    let ca = stage.ca_file.display();
    let fingerprint = stage.daemon.tls().ca_fingerprint_sha256().unwrap_or_default();
    let user = USER.replace('@', "%40");
    let preset = provider::by_name(stage.provider.scenario().name);
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "\
mailweir demo: a simulated provider at {provider} ({most} connections, like {title}), and mailweir in front of it.

  server       localhost
  IMAP         port {imap}   STARTTLS
  IMAPS        port {imaps}   SSL/TLS
  POP3         port {pop3}   STARTTLS (STLS)
  POP3S        port {pop3s}   SSL/TLS
  user         {USER}
  password     {PASSWORD}
  status page  http://localhost:{http}/

  certificate authority, to import or trust:
    {ca}
    SHA-256 {fingerprint}

Ready to paste
  Thunderbird  server localhost, port {imaps}, SSL/TLS, normal password, user name {USER}
  curl         curl --cacert '{ca}' --user {USER}:{PASSWORD} 'imaps://localhost:{imaps}/INBOX;MAILINDEX=1'
  curl, POP3   curl --cacert '{ca}' --user {USER}:{PASSWORD} 'pop3s://localhost:{pop3s}/1'
  openssl      openssl s_client -quiet -crlf -CAfile '{ca}' -connect localhost:{imaps}
  neomutt      neomutt -n -F /dev/null -e 'set ssl_ca_certificates_file=\"{ca}\" folder=/ imap_pass={PASSWORD}' -f imaps://{user}@localhost:{imaps}/INBOX

What to try
  - Connect more mail programs than {most}: the provider sees {allowed} connections at most.
  - Read a large message (\"The film\") twice, or with two programs: it is fetched once.
  - Flag, move or delete in one program and watch the other.
  - Let a POP3 program fetch and delete everything: IMAP programs still have it. With +laptop behind the user name it is one more
    device, which gets it all once more.
  - {arrivals}
  - mailweir demo --compare: twenty programs, directly and through mailweir.

Ctrl-C ends it.

",
        provider = stage.provider.address(),
        most = stage.provider.scenario().connections,
        allowed = preset.map_or(CONNECTIONS, |preset| preset.connections),
        title = preset.map_or("Gmail", |preset| preset.title.as_str()),
        arrivals = match every {
            0 => "No new mail arrives (--every 0).".to_owned(),
            seconds => format!("Leave INBOX open: new mail arrives every {seconds} seconds, and is there at once."),
        },
    );
    text
}

/// Prints and makes sure it is seen at once, terminal or not.
fn say(text: &str) -> io::Result<()> {
    progress::aside(|| {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    })
}

mod signals {
    //! What ends a demonstration. Unlike for the daemon, a terminal that is closed (SIGHUP) ends it too.

    #[cfg(unix)]
    pub(super) struct Stop {
        signals: [tokio::signal::unix::Signal; 3],
    }

    #[cfg(unix)]
    impl Stop {
        pub(super) fn listen() -> std::io::Result<Self> {
            use tokio::signal::unix::{SignalKind, signal};
            let signals =
                [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
            Ok(Self { signals })
        }

        pub(super) async fn told(&mut self) {
            let [term, int, hup] = &mut self.signals;
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
                _ = hup.recv() => {}
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) struct Stop;

    #[cfg(not(unix))]
    impl Stop {
        pub(super) fn listen() -> std::io::Result<Self> {
            Ok(Self)
        }

        pub(super) async fn told(&mut self) {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
