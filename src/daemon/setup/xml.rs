//! Writing small XML documents: elements, attributes, text, with everything escaped that must be.

use crate::daemon::markup::escape;

/// An element with text or with elements in it.
#[derive(Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    text: String,
    children: Vec<Self>,
}

impl Element {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attributes: Vec::new(), text: String::new(), children: Vec::new() }
    }

    /// With text in it.
    pub(super) fn text(name: &'static str, text: impl ToString) -> Self {
        Self { text: text.to_string(), ..Self::new(name) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    pub(super) fn child(mut self, child: Self) -> Self {
        self.children.push(child);
        self
    }

    pub(super) fn children(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(children);
        self
    }

    /// As a document, one element a line.
    pub(super) fn document(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, depth: usize) {
        let (name, indent) = (self.name, "  ".repeat(depth));
        out.push_str(&indent);
        out.push('<');
        out.push_str(name);
        for (attribute, value) in &self.attributes {
            out.push_str(&format!(" {attribute}=\"{}\"", escape(value)));
        }
        out.push('>');
        out.push_str(&escape(&self.text));
        if !self.children.is_empty() {
            out.push('\n');
            self.children.iter().for_each(|child| child.write(out, depth + 1));
            out.push_str(&indent);
        }
        out.push_str(&format!("</{name}>\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let nasty = "a<b>&\"'c ü\u{1f4ec} ]]> --";
        let text = Element::new("top").with("key", nasty).child(Element::text("in", nasty)).document();
        let read = roxmltree::Document::parse(&text).unwrap();
        let top = read.root_element();
        assert_eq!(top.attribute("key"), Some(nasty));
        assert_eq!(top.first_element_child().unwrap().text(), Some(nasty));
        let text = Element::text("top", "\0\u{b}\u{85}\u{ffff}\r").document();
        assert_eq!(
            roxmltree::Document::parse(&text).unwrap().root_element().text(),
            Some("\u{fffd}".repeat(5).as_str())
        );
    }
}
