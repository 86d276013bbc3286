//! THREAD and UID THREAD: ORDEREDSUBJECT and REFERENCES. RFC 5256 §3.
//!
//! The algorithms are pure: messages in, a forest out. Mail decides how deep a thread is, so nothing here recurses (Law 7): links are
//! numbers in one list, and every walk is a loop.

mod forest;

use std::collections::HashMap;

use self::forest::{Forest, Links};
use super::sort::Found;
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{Thread, ThreadAlgorithm};

impl<L: Login> Session<L> {
    pub(crate) async fn thread(&mut self, thread: Thread) -> Result<Reply, Failure> {
        let Thread { uid, algorithm, charset, key } = thread;
        let found = self.found(&charset, key, true).await?;
        let line = self.put_in_order(found, move |found| {
            let forest = match algorithm {
                ThreadAlgorithm::OrderedSubject => ordered_subject(&found),
                ThreadAlgorithm::References => references(&found),
            };
            let mut line = String::from("* THREAD");
            if !forest.roots.is_empty() {
                line.push(' ');
                forest.write(&mut line, |message| found.get(message).map_or(0, |found| found.number(uid)));
            }
            line.push_str("\r\n");
            line
        });
        let line = line.await?;
        render::text(&mut self.io.out, &line);
        Ok(Reply::ok("Thread completed"))
    }
}

/// Threads by base subject, in the order of their first messages; all others of a thread stand below its first.
fn ordered_subject(found: &[Found]) -> Forest {
    let mut forest = Forest::default();
    let mut by_sent: Vec<usize> = (0..found.len()).collect();
    by_sent.sort_by_key(|message| key(found, *message));
    let mut first: HashMap<&str, usize> = HashMap::new();
    for message in by_sent {
        let node = forest.add(Some(message));
        let subject = found.get(message).map_or("", |found| found.order.subject.as_str());
        match first.get(subject) {
            Some(root) => forest.link(*root, node),
            None => {
                first.insert(subject, node);
                forest.roots.push(node);
            }
        }
    }
    forest
}

/// What siblings are ordered by: time of sending, then place in the mailbox.
fn key(found: &[Found], message: usize) -> (i64, u32) {
    found.get(message).map_or((0, 0), |found| (found.sent(), found.seq))
}

/// RFC 5256 §3, REFERENCES, step by step.
fn references(found: &[Found]) -> Forest {
    let mut forest = linked(found).into_forest();
    prune(&mut forest);
    // Step 4, so that step 5 meets the threads in the order of time.
    sort_siblings(&mut forest, found);
    gather_subjects(&mut forest, found);
    // Step 6.
    sort_siblings(&mut forest, found);
    forest
}

/// Step 1: who answers whom.
fn linked(found: &[Found]) -> Links {
    let mut links = Links::default();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (index, message) in found.iter().enumerate() {
        let id = message.order.message_id.as_deref();
        // The place may be known from a reference; of two messages with one id the second has a place without a name.
        let known = id.and_then(|id| by_id.get(id).copied()).filter(|node| !links.has_message(*node));
        let node = match known {
            Some(node) => {
                if let Some(place) = links.places.get_mut(node) {
                    place.message = Some(index);
                }
                node
            }
            None => {
                let node = links.add(Some(index));
                if let Some(id) = id {
                    by_id.entry(id).or_insert(node);
                }
                node
            }
        };
        let mut above: Option<usize> = None;
        for reference in &message.order.references {
            let place = *by_id.entry(reference.as_str()).or_insert_with(|| links.add(None));
            if let Some(above) = above
                && links.above(place).is_none()
                && !links.is_below(above, place)
            {
                links.link(above, place);
            }
            above = Some(place);
        }
        // The message's own word about its parent counts more than what others' references said of it.
        match above {
            Some(above) if links.above(node) != Some(above) && !links.is_below(above, node) => {
                links.link(above, node);
            }
            _ => {}
        }
    }
    links
}

/// Step 3: places without a message go, unless they hold a thread together at the top.
fn prune(forest: &mut Forest) {
    // From the leaves up: a place is looked at when all below it have been.
    let mut order = Vec::with_capacity(forest.nodes.len());
    let mut todo = forest.roots.clone();
    while let Some(node) = todo.pop() {
        order.push(node);
        todo.extend_from_slice(forest.children(node));
    }
    for node in order.into_iter().rev() {
        let (here, not_here): (Vec<usize>, Vec<usize>) =
            forest.take_children(node).into_iter().partition(|child| forest.message(*child).is_some());
        let mut children = here;
        for place in not_here {
            let mut below = forest.take_children(place);
            // Their order is made later. Always the fewer go to the more: a thousand answers below a thousand places that are not
            // here are not moved a thousand times.
            if below.len() > children.len() {
                std::mem::swap(&mut children, &mut below);
            }
            children.append(&mut below);
        }
        forest.set_children(node, children);
    }
    let mut roots = Vec::new();
    for root in std::mem::take(&mut forest.roots) {
        match (forest.message(root), forest.children(root)) {
            (None, []) => {}
            (None, [only]) => roots.push(*only),
            _ => roots.push(root),
        }
    }
    forest.roots = roots;
}

/// Steps 4 and 6: siblings by time; a place without a message by the first below it, which is why the threads come last.
fn sort_siblings(forest: &mut Forest, found: &[Found]) {
    let time = |forest: &Forest, node: usize| forest.speaker(node).map_or((0, 0), |message| key(found, message));
    for node in 0..forest.nodes.len() {
        let mut children = forest.take_children(node);
        children.sort_by_key(|child| time(forest, *child));
        forest.set_children(node, children);
    }
    let mut roots = std::mem::take(&mut forest.roots);
    roots.sort_by_key(|root| time(forest, *root));
    forest.roots = roots;
}

/// Step 5: threads of one base subject become one.
fn gather_subjects(forest: &mut Forest, found: &[Found]) {
    let speaks = |forest: &Forest, node: usize| forest.speaker(node).and_then(|message| found.get(message));
    let is_reply = |forest: &Forest, node: usize| speaks(forest, node).is_some_and(|found| found.order.is_reply);
    let mut table: HashMap<&str, usize> = HashMap::new();
    for root in &forest.roots {
        let subject = speaks(forest, *root).map_or("", |found| found.order.subject.as_str());
        if subject.is_empty() {
            continue;
        }
        let entry = table.entry(subject).or_insert(*root);
        let is_better = forest.message(*entry).is_some()
            && (forest.message(*root).is_none() || (is_reply(forest, *entry) && !is_reply(forest, *root)));
        if is_better {
            *entry = *root;
        }
    }
    let mut roots: Vec<Option<usize>> = forest.roots.iter().map(|root| Some(*root)).collect();
    let mut place_of: HashMap<usize, usize> =
        forest.roots.iter().enumerate().map(|(place, root)| (*root, place)).collect();
    for place in 0..roots.len() {
        let Some(root) = roots.get(place).copied().flatten() else { continue };
        let Some(subject) = speaks(forest, root).map(|found| found.order.subject.as_str()) else { continue };
        let Some(first) = table.get(subject).copied().filter(|first| *first != root) else { continue };
        match (forest.message(first), forest.message(root)) {
            (None, None) => {
                for child in forest.take_children(root) {
                    forest.link(first, child);
                }
            }
            (None, Some(_)) => forest.link(first, root),
            _ if is_reply(forest, root) && !is_reply(forest, first) => forest.link(first, root),
            _ => {
                let both = forest.add(None);
                forest.link(both, first);
                forest.link(both, root);
                table.insert(subject, both);
                if let Some(at) = place_of.remove(&first) {
                    if let Some(slot) = roots.get_mut(at) {
                        *slot = Some(both);
                    }
                    place_of.insert(both, at);
                }
            }
        }
        if let Some(slot) = roots.get_mut(place) {
            *slot = None;
        }
    }
    forest.roots = roots.into_iter().flatten().collect();
}

#[cfg(test)]
mod tests {
    use super::forest::{DEEPEST, STEPS};
    use super::*;
    use crate::message::order_of_header;
    use crate::model::{Flags, InternalDate, MessageMeta, ModSeq, Uid};

    /// `subject | id | references`, sent in that order.
    fn messages(lines: &[&str]) -> Vec<Found> {
        let message = |(seq, line): (u32, &&str)| {
            let mut parts = line.split('|').map(str::trim);
            let (subject, id, references) = (parts.next(), parts.next(), parts.next());
            let header = format!(
                "Subject: {}\r\nMessage-ID: {}\r\nReferences: {}\r\n\r\n",
                subject.unwrap_or_default(),
                id.unwrap_or_default(),
                references.unwrap_or_default()
            );
            let internal_date = InternalDate { seconds: i64::from(seq), zone: 0 };
            let meta = MessageMeta {
                uid: Uid(seq),
                flags: Flags::default(),
                modseq: ModSeq(1),
                internal_date,
                size: 1,
                gm_msgid: 0,
            };
            Found { seq, meta, order: order_of_header(header.as_bytes()) }
        };
        (1..).zip(lines).map(message).collect()
    }

    fn told(forest: &Forest) -> String {
        let mut out = String::new();
        forest.write(&mut out, |message| u32::try_from(message).unwrap() + 1);
        out
    }

    #[test]
    fn threads() {
        let table: &[(&[&str], &str, &str)] = &[
            (&[], "", ""),
            (&["a|<1@x>|"], "(1)", "(1)"),
            (&["a|<1@x>|", "Re: a|<2@x>|<1@x>", "Re: a|<3@x>|<1@x> <2@x>"], "(1 2 3)", "(1 (2)(3))"),
            (&["a|<1@x>|", "Re: a|<2@x>|<1@x>", "b|<3@x>|<1@x>"], "(1 (2)(3))", "(1 2)(3)"),
            // The answer before the question, and a question that never came.
            (&["Re: a|<2@x>|<1@x>", "a|<1@x>|"], "(2 1)", "(1 2)"),
            (&["x|<2@x>|<1@x>", "y|<3@x>|<1@x>"], "((1)(2))", "(1)(2)"),
            (&["x|<3@x>|<1@x> <2@x>"], "(1)", "(1)"),
            // By subject alone: an answer goes below, equals stand together.
            (&["a||", "Re: a||", "c||"], "(1 2)(3)", "(1 2)(3)"),
            (&["a||", "a||", "Re: a||", "a||"], "((1)(2)(3)(4))", "(1 (2)(3)(4))"),
            (&["Re: a||", "a||"], "(2 1)", "(1 2)"),
            // Loops, doubles, oneself.
            (&["x|<1@x>|<2@x>", "y|<2@x>|<1@x>"], "(2 1)", "(1)(2)"),
            (&["x|<1@x>|<1@x>"], "(1)", "(1)"),
            (&["x|<1@x>|", "y|<1@x>|"], "(1)(2)", "(1)(2)"),
            // No subject joins nothing.
            (&["||", "||"], "(1)(2)", "(1 2)"),
        ];
        for (lines, by_references, by_subject) in table {
            let found = messages(lines);
            assert_eq!(told(&references(&found)), *by_references, "REFERENCES of {lines:?}");
            assert_eq!(told(&ordered_subject(&found)), *by_subject, "ORDEREDSUBJECT of {lines:?}");
        }
    }

    /// Twenty thousand messages of one thread, side by side, in ways that have each of them looked at again and again if one is careless.
    #[test]
    fn a_thread_of_any_breadth() {
        const MANY: usize = 20_000;
        let each = |line: &dyn Fn(usize) -> String| (1..=MANY).map(line).collect::<Vec<_>>();
        let answers = [vec!["s|<0@x>|".to_owned()], each(&|n| format!("Re: s|<{n}@x>|<0@x>"))].concat();
        // Said by others to answer one message, and by themselves another.
        let moved = [each(&|n| format!("x|<m{n}@x>|<a@x> <{n}@x>")), each(&|n| format!("y|<{n}@x>|<b@x>"))].concat();
        // Answers to the last of a thousand messages that are not here.
        let above: String = (0..1000).map(|n| format!(" <p{n}@x>")).collect();
        let hidden = [vec![format!("z|<h@x>|{above}")], each(&|n| format!("z|<{n}@x>|<p999@x>"))].concat();
        // Two threads of one subject, both without a beginning.
        let halves = each(&|n| format!("w|<{n}@x>|<half{}@x>", n % 2));
        for (name, lines, begins, threads) in [
            ("answers", answers, "(1 (2)(3)(4)", 1 + MANY),
            ("moved", moved, "((20001 1)(20002 2)(20003 3)", 1 + MANY),
            ("hidden", hidden, "((1)(2)(3)", 2 + MANY),
            ("halves", halves, "((1)(2)(3)", 1 + MANY),
        ] {
            let found = messages(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let links = linked(&found);
            assert!(links.steps <= 3 * lines.len(), "{name}: {} steps", links.steps);
            let told = told(&references(&found));
            assert!(told.starts_with(begins), "{name}: {}", &told[..100]);
            assert_eq!(told.matches('(').count(), threads, "{name}");
        }
    }

    /// Mail made to be walked through for ever is not: what is beyond the bound is told, and linked no further.
    #[test]
    fn walks_have_a_bound() {
        let mut links = Links::default();
        let chain: Vec<usize> = (0..2 * DEEPEST).map(|_| links.add(None)).collect();
        for pair in chain.windows(2) {
            links.link(pair[0], pair[1]);
        }
        let (other, below) = (links.add(None), links.add(None));
        links.link(other, below);
        let last = chain[chain.len() - 1];
        assert!(links.is_below(last, other), "deeper than anybody looks");
        assert_eq!(links.steps, DEEPEST);
        assert!(!links.is_below(chain[DEEPEST / 2], other));
        links.steps = STEPS;
        assert!(links.is_below(chain[1], other) && links.steps == STEPS);
    }

    #[test]
    fn a_thread_of_any_depth() {
        let mut lines: Vec<String> = (0..20_000).map(|n| format!("s{n}|<{}@x>|<{n}@x>", n + 1)).collect();
        for _ in 0..2 {
            let found = messages(&lines.iter().map(String::as_str).collect::<Vec<_>>());
            let forest = references(&found);
            let mut all = told(&forest);
            all.retain(|c| c.is_ascii_digit() || c == ' ' || c == '(');
            assert_eq!(all.split(['(', ' ']).filter(|word| !word.is_empty()).count(), lines.len(), "each told once");
            lines.reverse();
        }
    }
}
