//! Threads as links between messages: from below while they are made, from above when they are told.
//!
//! Links are numbers in one list, and every walk is a loop: mail decides how deep a thread is (Law 7). What is done costs no more than the
//! messages and references there are, but for the walks that look for loops, which have a bound (Law 8).

/// How far up a thread a loop is looked for; what is deeper is not linked further, and nobody reads it.
pub(super) const DEEPEST: usize = 10_000;
/// Steps up that all these looks may take together. Mail takes a few for each message; what takes more was made to, and is not
/// linked further either: some tenths of a second.
pub(super) const STEPS: usize = 50_000_000;

/// Who stands below whom, while that is being found out: as every place knows the one above it, a link is changed at no cost.
#[derive(Debug, Default)]
pub(super) struct Links {
    pub(super) places: Vec<Place>,
    /// Steps taken of [`STEPS`].
    pub(super) steps: usize,
}

/// A message, or where one that is not here would be.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Index of the message found.
    pub(super) message: Option<usize>,
    above: Option<usize>,
    /// Places linked below this one.
    below: usize,
}

impl Links {
    pub(super) fn add(&mut self, message: Option<usize>) -> usize {
        self.places.push(Place { message, ..Place::default() });
        self.places.len() - 1
    }

    pub(super) fn above(&self, place: usize) -> Option<usize> {
        self.places.get(place).and_then(|place| place.above)
    }

    pub(super) fn has_message(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|place| place.message.is_some())
    }

    /// Puts `place` below `above`, away from where it was.
    pub(super) fn link(&mut self, above: usize, place: usize) {
        let Some(linked) = self.places.get_mut(place) else { return };
        let old = linked.above.replace(above);
        if let Some(old) = old.and_then(|old| self.places.get_mut(old)) {
            old.below -= 1;
        }
        if let Some(above) = self.places.get_mut(above) {
            above.below += 1;
        }
    }

    /// Whether `above` stands above `place` or is it, or may for all we can see.
    pub(super) fn is_below(&mut self, place: usize, above: usize) -> bool {
        if place == above {
            return true;
        }
        if self.places.get(above).is_none_or(|above| above.below == 0) {
            return false;
        }
        let mut at = place;
        for _ in 0..DEEPEST.min(STEPS.saturating_sub(self.steps)) {
            self.steps += 1;
            match self.above(at) {
                None => return false,
                Some(parent) if parent == above => return true,
                Some(parent) => at = parent,
            }
        }
        true
    }

    /// The same as threads from the top down. Step 2: whatever has nothing above it is a thread of its own.
    pub(super) fn into_forest(self) -> Forest {
        let below = |place: &Place| Node { message: place.message, children: Vec::with_capacity(place.below) };
        let mut forest = Forest { nodes: self.places.iter().map(below).collect(), roots: Vec::new() };
        for (node, place) in self.places.iter().enumerate() {
            match place.above {
                Some(above) => forest.link(above, node),
                None => forest.roots.push(node),
            }
        }
        forest
    }
}

/// A message, or the place of one that is not here.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Index of the message found.
    message: Option<usize>,
    children: Vec<usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Forest {
    pub(super) nodes: Vec<Node>,
    /// The threads, in the order they are told.
    pub(super) roots: Vec<usize>,
}

impl Forest {
    pub(super) fn add(&mut self, message: Option<usize>) -> usize {
        self.nodes.push(Node { message, ..Node::default() });
        self.nodes.len() - 1
    }

    pub(super) fn message(&self, node: usize) -> Option<usize> {
        self.nodes.get(node).and_then(|node| node.message)
    }

    pub(super) fn children(&self, node: usize) -> &[usize] {
        self.nodes.get(node).map_or(&[], |node| &node.children)
    }

    pub(super) fn take_children(&mut self, node: usize) -> Vec<usize> {
        self.nodes.get_mut(node).map(|node| std::mem::take(&mut node.children)).unwrap_or_default()
    }

    pub(super) fn set_children(&mut self, node: usize, children: Vec<usize>) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.children = children;
        }
    }

    /// Puts `child`, which stands at the top, below `parent`.
    pub(super) fn link(&mut self, parent: usize, child: usize) {
        if let Some(node) = self.nodes.get_mut(parent) {
            node.children.push(child);
        }
    }

    /// The message that stands for a thread: its own, or the first below a place without one.
    pub(super) fn speaker(&self, node: usize) -> Option<usize> {
        self.message(node).or_else(|| self.children(node).first().and_then(|child| self.message(*child)))
    }

    /// `(1 (2)(3 4))((5)(6))`.
    pub(super) fn write(&self, out: &mut String, number: impl Fn(usize) -> u32) {
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
