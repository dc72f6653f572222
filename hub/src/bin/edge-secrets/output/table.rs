//! Plain columns for people.

use comfy_table::presets;

use super::tame;

/// A table without lines: headers in capitals, columns two spaces apart.
pub(crate) struct Table(comfy_table::Table);

impl Table {
    /// An empty table under `headers`.
    pub(crate) fn new<const N: usize>(headers: [&str; N]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_header(headers);
        Self(table)
    }

    /// A table without headers: what belongs to one thing, line by line.
    pub(crate) fn facts<const N: usize>(facts: [(&str, String); N]) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        let mut table = Self(table);
        for (name, value) in facts {
            table.row([format!("{name}:"), value]);
        }
        table.render()
    }

    /// Adds a row. A cell is one line, whatever is in it.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells.map(|cell| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                tame(&cell).replace('\n', "\\n")
            }
        }));
    }

    /// The table as text, each line ended.
    pub(crate) fn render(mut self) -> String {
        for column in self.0.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let mut text = String::new();
        for line in self.0.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// `1 node`, `2 nodes`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_without_lines() {
        let mut table = Table::new(["NODE", "STATE"]);
        table.row(["edge-01".into(), "applied".into()]);
        table.row(["a-longer-name".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NODE           STATE\n\
             edge-01        applied\n\
             a-longer-name  -\n"
        );
    }

    #[test]
    fn foreign_text_cannot_break_out_of_its_cell() {
        let mut table = Table::new(["A"]);
        table.row(["x\ny\u{1b}[2J\u{9b}z".into()]);
        assert_eq!(table.render(), "A\nx\\ny\\u{1b}[2J\\u{9b}z\n");
    }

    #[test]
    fn facts_line_up() {
        let text = Table::facts([("secret", "db".into()), ("version", "3".into())]);
        assert_eq!(text, "secret:   db\nversion:  3\n");
    }
}
