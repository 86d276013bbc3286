//! THREAD and UID THREAD: ORDEREDSUBJECT and REFERENCES. RFC 5256 §3.
//!
//! The algorithms are pure: messages in, a forest out. Mail decides how deep a thread is, so nothing here recurses (Law 7): links are
//! numbers in one list, and every walk is a loop.

use std::collections::HashMap;

use super::sort::Found;
use crate::session::imap::reply::Reply;
use crate::session::imap::state::{Failure, Session};
use crate::session::imap::{Login, render};
use crate::wire::imap::command::{Thread, ThreadAlgorithm};

/// How far up a thread a loop is looked for; what is deeper is not linked further, and nobody reads it.
const DEEPEST: usize = 10_000;

impl<L: Login> Session<L> {
    pub(crate) async fn thread(&mut self, thread: Thread) -> Result<Reply, Failure> {
        let Thread { uid, algorithm, charset, key } = thread;
        let found = self.found(&charset, key, true).await?;
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
        render::text(&mut self.io.out, &line);
        Ok(Reply::ok("Thread completed"))
    }
}

/// A message, or the place of one that is not here.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Index of the message found.
    message: Option<usize>,
    parent: Option<usize>,
    children: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
struct Forest {
    nodes: Vec<Node>,
    /// The threads, in the order they are told.
    roots: Vec<usize>,
}

impl Forest {
    fn add(&mut self, message: Option<usize>) -> usize {
        self.nodes.push(Node { message, ..Node::default() });
        self.nodes.len() - 1
    }

    fn parent(&self, node: usize) -> Option<usize> {
        self.nodes.get(node).and_then(|node| node.parent)
    }

    fn message(&self, node: usize) -> Option<usize> {
        self.nodes.get(node).and_then(|node| node.message)
    }

    fn children(&self, node: usize) -> &[usize] {
        self.nodes.get(node).map_or(&[], |node| &node.children)
    }

    /// Puts `child` below `parent`, away from where it was.
    fn link(&mut self, parent: usize, child: usize) {
        if let Some(old) = self.parent(child).and_then(|old| self.nodes.get_mut(old)) {
            old.children.retain(|known| *known != child);
        }
        if let Some(node) = self.nodes.get_mut(child) {
            node.parent = Some(parent);
        }
        if let Some(node) = self.nodes.get_mut(parent) {
            node.children.push(child);
        }
    }

    /// Whether `above` stands above `node` or is it, or may for all we can see.
    fn is_below(&self, node: usize, above: usize) -> bool {
        if node == above {
            return true;
        }
        if self.children(above).is_empty() {
            return false;
        }
        let mut at = node;
        for _ in 0..DEEPEST {
            match self.parent(at) {
                None => return false,
                Some(parent) if parent == above => return true,
                Some(parent) => at = parent,
            }
        }
        true
    }

    /// The message that stands for a thread: its own, or the first below a place without one.
    fn speaker(&self, node: usize) -> Option<usize> {
        self.message(node).or_else(|| self.children(node).first().and_then(|child| self.message(*child)))
    }

    /// `(1 (2)(3 4))((5)(6))`.
    fn write(&self, out: &mut String, number: impl Fn(usize) -> u32) {
        enum Step {
            Open(usize),
            Members(usize),
            Close,
        }
        let mut todo: Vec<Step> = self.roots.iter().rev().map(|root| Step::Open(*root)).collect();
        let mut buffer = itoa::Buffer::new();
        while let Some(step) = todo.pop() {
            match step {
                Step::Open(node) => {
                    out.push('(');
                    todo.push(Step::Close);
                    todo.push(Step::Members(node));
                }
                Step::Close => out.push(')'),
                Step::Members(node) => {
                    let children = self.children(node);
                    if let Some(message) = self.message(node) {
                        out.push_str(buffer.format(number(message)));
                        if !children.is_empty() {
                            out.push(' ');
                        }
                        if let [only] = children {
                            todo.push(Step::Members(*only));
                            continue;
                        }
                    }
                    todo.extend(children.iter().rev().map(|child| Step::Open(*child)));
                }
            }
        }
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
    let mut forest = linked(found);
    // Step 2: everything without a parent is a thread of its own.
    let roots = (0..forest.nodes.len()).filter(|node| forest.parent(*node).is_none()).collect();
    forest.roots = roots;
    prune(&mut forest);
    // Step 4, so that step 5 meets the threads in the order of time.
    sort_siblings(&mut forest, found);
    gather_subjects(&mut forest, found);
    // Step 6.
    sort_siblings(&mut forest, found);
    forest
}

/// Step 1: who answers whom.
fn linked(found: &[Found]) -> Forest {
    let mut forest = Forest::default();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for (index, message) in found.iter().enumerate() {
        let id = message.order.message_id.as_deref();
        // The place may be known from a reference; of two messages with one id the second has a place without a name.
        let known = id.and_then(|id| by_id.get(id).copied()).filter(|node| forest.message(*node).is_none());
        let node = match known {
            Some(node) => {
                if let Some(place) = forest.nodes.get_mut(node) {
                    place.message = Some(index);
                }
                node
            }
            None => {
                let node = forest.add(Some(index));
                if let Some(id) = id {
                    by_id.entry(id).or_insert(node);
                }
                node
            }
        };
        let mut above: Option<usize> = None;
        for reference in &message.order.references {
            let place = *by_id.entry(reference.as_str()).or_insert_with(|| forest.add(None));
            if let Some(above) = above
                && forest.parent(place).is_none()
                && !forest.is_below(above, place)
            {
                forest.link(above, place);
            }
            above = Some(place);
        }
        // The message's own word about its parent counts more than what others' references said of it.
        match above {
            Some(above) if forest.parent(node) != Some(above) && !forest.is_below(above, node) => {
                forest.link(above, node);
            }
            _ => {}
        }
    }
    forest
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
        let mut children = Vec::new();
        for child in forest.children(node) {
            match forest.message(*child) {
                Some(_) => children.push(*child),
                None => children.extend_from_slice(forest.children(*child)),
            }
        }
        for child in &children {
            if let Some(child) = forest.nodes.get_mut(*child) {
                child.parent = Some(node);
            }
        }
        if let Some(node) = forest.nodes.get_mut(node) {
            node.children = children;
        }
    }
    let mut roots = Vec::new();
    for root in std::mem::take(&mut forest.roots) {
        match (forest.message(root), forest.children(root)) {
            (None, []) => {}
            (None, [only]) => {
                let only = *only;
                if let Some(only) = forest.nodes.get_mut(only) {
                    only.parent = None;
                }
                roots.push(only);
            }
            _ => roots.push(root),
        }
    }
    forest.roots = roots;
}

/// Steps 4 and 6: siblings by time; a place without a message by the first below it, which is why the threads come last.
fn sort_siblings(forest: &mut Forest, found: &[Found]) {
    let time = |forest: &Forest, node: usize| forest.speaker(node).map_or((0, 0), |message| key(found, message));
    for node in 0..forest.nodes.len() {
        let mut children =
            forest.nodes.get_mut(node).map(|node| std::mem::take(&mut node.children)).unwrap_or_default();
        children.sort_by_key(|child| time(forest, *child));
        if let Some(node) = forest.nodes.get_mut(node) {
            node.children = children;
        }
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
                for child in forest.children(root).to_vec() {
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
