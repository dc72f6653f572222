//! From text to expression, by recursive descent.

use super::eval::{Comparison, Literal, Operator};
use super::lexer::{Connector, Lexer, Value};
use super::{ConstraintError, Expression};

/// Parses a constraint; an empty one demands nothing.
pub(super) fn parse(text: &str) -> Result<Expression, ConstraintError> {
    let mut lexer = Lexer::new(text);
    if text.len() > MAX_BYTES {
        return Err(ConstraintError {
            offset: MAX_BYTES,
            column: 1,
            expected: format!("at most {MAX_BYTES} bytes"),
            found: format!("{} bytes", text.len()),
        });
    }
    if lexer.is_at_end() {
        return Ok(Expression::All(Vec::new()));
    }
    let mut parser = Parser { lexer, depth: 0 };
    let (expression, closed_at) = parser.any()?;
    match closed_at {
        None => Ok(expression),
        Some(at) => Err(parser.lexer.error_at(at, "`AND`, `OR` or the end")),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
}

impl Parser<'_> {
    /// Terms up to the end, or to a closing parenthesis, whose offset is given back.
    fn any(&mut self) -> Result<(Expression, Option<usize>), ConstraintError> {
        let mut alternatives = Vec::new();
        let mut all = vec![self.term()?];
        loop {
            let at = self.lexer.offset();
            let connector = self.lexer.connector()?;
            if connector == Connector::And {
                all.push(self.term()?);
                continue;
            }
            alternatives.push(one_or(all, Expression::All));
            if connector == Connector::Or {
                all = vec![self.term()?];
                continue;
            }
            let closed_at = (connector == Connector::Close).then_some(at);
            return Ok((one_or(alternatives, Expression::Any), closed_at));
        }
    }

    fn term(&mut self) -> Result<Expression, ConstraintError> {
        let at = self.lexer.offset();
        if !self.lexer.open() {
            let compare = |comparison| Expression::Compare(Box::new(comparison));
            return self.comparison().map(compare);
        }
        if self.depth == MAX_DEPTH {
            let expected = format!("parentheses at most {MAX_DEPTH} deep");
            return Err(self.lexer.error_at(at, &expected));
        }
        self.depth += 1;
        let (inner, closed_at) = self.any()?;
        self.depth -= 1;
        if closed_at.is_none() {
            let end = self.lexer.offset();
            return Err(self.lexer.error_at(end, "`)`"));
        }
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Comparison, ConstraintError> {
        let name = self.lexer.name()?;
        let operator = self.lexer.operator().map_err(|mut error| {
            if name.eq_ignore_ascii_case("NOT") {
                error.expected.push_str("; there is no NOT, only !=");
            }
            error
        })?;
        let at = self.lexer.offset();
        let literal = match self.lexer.value()? {
            Value::Range(text) => {
                let range = text.parse().map_err(|_| {
                    let expected = "a version range such as [1.0.0,2.0.0)";
                    self.lexer.error_at(at, expected)
                })?;
                if operator != Operator::In {
                    return Err(self.lexer.error_at(at, "`in` before a version range"));
                }
                Literal::range(text, range)
            }
            Value::Quoted(text) | Value::Bare(text) => Literal::text(text),
        };
        if operator.is_order() && !literal.has_order() {
            return Err(self.lexer.error_at(at, "a number or version"));
        }
        Ok(Comparison::new(name, operator, literal))
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            many(parts)
        }
    }
}

const MAX_BYTES: usize = 8 * 1024;
const MAX_DEPTH: usize = 32;
