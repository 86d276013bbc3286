//! Where in a talk between daemon and provider the relay is to break it: a step of the protocol, found by the lines that pass.
//!
//! Only finds the place, over lines fed to it: what is done there is the relay's (`relay.rs`).

use super::relay::Way;

/// What happens to the connection at that place. Nothing behind the place passes any more, unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Closed in order (FIN), both ways.
    Cut,
    /// Every connection through this relay is: the network is gone for a moment.
    CutAll,
    /// Closed with a reset.
    Reset,
    /// The server's side has stopped sending; what the daemon sends arrives.
    HalfClose,
    /// Nothing passes any more, and nobody is told.
    Stall,
    /// The same, but what the daemon had sent arrives after all when [`super::relay::Relay::deliver_late`] says so, if the daemon has closed in
    /// order by then: so does the kernel of a computer whose network comes back.
    Late,
    /// Byte by byte from here on.
    Trickle,
}

/// Which line (or octet) of the talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The line of the command.
    Command,
    /// `+`, for its literal.
    Go,
    /// So many octets behind the line of the command: in its literal.
    Octet(usize),
    /// An untagged line with these words, said to it.
    Told(&'static str),
    /// Its tagged answer.
    Answer,
    /// A reply of SMTP's that begins so.
    Reply(&'static str),
}

/// Before the line, in its middle, or behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Before,
    Middle,
    After,
}

/// A place to break at, and how.
#[derive(Clone, Debug)]
pub struct Trap {
    /// What the line of the command contains.
    word: &'static str,
    point: Point,
    place: Place,
    pub act: Act,
    /// The connection and the tag of the command, once it has been seen.
    seen: Option<(usize, Vec<u8>)>,
    /// Octets behind the line of the command so far.
    behind: usize,
}

impl Trap {
    pub fn new(word: &'static str, point: Point, place: Place, act: Act) -> Self {
        Self { word, point, place, act, seen: None, behind: 0 }
    }

    /// One line that is about to pass, its LF included; how much of it may, if this is the place.
    pub fn at(&mut self, connection: usize, way: Way, line: &[u8]) -> Option<usize> {
        let place = match self.place {
            Place::Before => 0,
            Place::Middle => line.len() / 2,
            Place::After => line.len(),
        };
        let Some((of, tag)) = &self.seen else {
            if way == Way::Up && contains(line, self.word) {
                let tag = line.split(|b| *b == b' ').next().unwrap_or_default();
                self.seen = Some((connection, [tag, b" "].concat()));
                return (self.point == Point::Command).then_some(place);
            }
            return None;
        };
        if *of != connection {
            return None;
        }
        let found = match self.point {
            Point::Octet(n) if way == Way::Up => {
                let before = self.behind;
                self.behind += line.len();
                return (self.behind >= n).then(|| n - before);
            }
            Point::Command | Point::Octet(_) => false,
            Point::Go => way == Way::Down && line.starts_with(b"+"),
            Point::Told(words) => way == Way::Down && line.starts_with(b"*") && contains(line, words),
            Point::Answer => way == Way::Down && line.starts_with(tag),
            Point::Reply(words) => way == Way::Down && line.starts_with(words.as_bytes()),
        };
        found.then_some(place)
    }
}

fn contains(line: &[u8], word: &str) -> bool {
    line.windows(word.len()).any(|part| part == word.as_bytes())
}

#[test]
fn places_are_found() {
    let up = |line: &'static str| (1, Way::Up, line);
    let down = |line: &'static str| (1, Way::Down, line);
    let talk = [
        up("w1 NOOP\r\n"),
        down("w1 OK APPEND is not the word of a command here\r\n"),
        up("w2 APPEND \"To\" {10}\r\n"),
        (2, Way::Down, "+ another's\r\n"),
        down("+ go\r\n"),
        up("abc\r\n"),
        up("defgh\r\n"),
        (2, Way::Down, "w2 OK another's\r\n"),
        down("* 3 EXISTS\r\n"),
        down("w2 OK done\r\n"),
    ];
    let table = [
        (Point::Command, Place::Before, Some((2, 0))),
        (Point::Command, Place::Middle, Some((2, 10))),
        (Point::Command, Place::After, Some((2, 21))),
        (Point::Go, Place::Before, Some((4, 0))),
        (Point::Octet(5), Place::Before, Some((5, 5))),
        (Point::Octet(6), Place::Before, Some((6, 1))),
        (Point::Told("EXISTS"), Place::After, Some((8, 12))),
        (Point::Told("EXPUNGE"), Place::After, None),
        (Point::Answer, Place::Middle, Some((9, 6))),
        (Point::Reply("w2 OK done"), Place::Middle, Some((9, 6))),
    ];
    for (point, place, expected) in table {
        let mut trap = Trap::new("APPEND \"To\"", point, place, Act::Cut);
        let found = talk.iter().enumerate().find_map(|(n, (connection, way, line))| {
            trap.at(*connection, *way, line.as_bytes()).map(|passes| (n, passes))
        });
        assert_eq!(found, expected, "{point:?} {place:?}");
    }
}
