//! What a template reads, told from its syntax before it runs.
//!
//! Stands on the engine's syntax tree, which it shows under its feature `unstable_machinery`: another
//! release may change it, and then this does not compile. Nothing else here uses it.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use edge_secrets_protocol::SecretName;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Filter, Spanned, Stmt};
use minijinja::machinery::{Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::filters::NAMES;
use super::{MAX_TEMPLATE, TemplateError, misspelt, syntax};

/// What a template reads.
pub(super) struct Reads {
    /// The secrets; none when it cannot be told.
    pub(super) secrets: Option<BTreeSet<SecretName>>,
    /// Each place where a secret or a field is named outright.
    pub(super) accesses: Vec<Access>,
}

/// One `secrets.NAME` or `secrets.NAME.FIELD`.
pub(super) struct Access {
    pub(super) secret: String,
    pub(super) field: Option<String>,
    pub(super) lines: RangeInclusive<usize>,
}

impl Reads {
    /// Reads the syntax of `text`, and refuses what could only fail.
    pub(super) fn of(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE {
            return Err(TemplateError {
                line: None,
                reason: format!("the template is larger than {MAX_TEMPLATE} bytes"),
            });
        }
        let syntax = syntax().map_err(|error| misspelt(&error))?;
        bounded(text, &syntax)?;
        let tree = parse(text, "", syntax).map_err(|error| misspelt(&error))?;
        let mut walk = Walk::default();
        walk.statement(&tree)?;
        walk.finish()
    }
}

/// Refuses what is too deep before it is parsed: the engine's parser and compiler, and the walk here,
/// take stack for every operator in a tag and every `elif` before a branch.
fn bounded(text: &str, syntax: &SyntaxConfig) -> Result<(), TemplateError> {
    let (mut tokens, mut branches) = (0, 0);
    for token in tokenize(text, false, syntax.clone()) {
        // Where the text cannot be split, the parser says why.
        let Ok((token, span)) = token else { break };
        tokens = match token {
            Token::TemplateData(_) => 0,
            Token::VariableStart | Token::BlockStart => 1,
            _ => tokens + 1,
        };
        branches += usize::from(tokens == 2 && matches!(token, Token::Ident("elif")));
        let line = usize::from(span.start_line);
        if tokens > MAX_TOKENS {
            return Err(wrong(line, "this tag is too long; split it"));
        }
        if branches > MAX_BRANCHES {
            let reason = format!("a template has at most {MAX_BRANCHES} `elif`");
            return Err(wrong(line, reason));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Walk<'a> {
    accesses: Vec<Access>,
    /// `secrets` is used other than by a name that stands in the text.
    dynamic: bool,
    used: Vec<(&'a str, usize)>,
    assigned: BTreeSet<&'a str>,
}

type Walked = Result<(), TemplateError>;

impl<'a> Walk<'a> {
    fn finish(self) -> Result<Reads, TemplateError> {
        // Wider than the engine's scopes, which are found when it runs: nothing that works is refused.
        for (name, line) in self.used {
            if name != SECRETS && name != LOOP && !self.assigned.contains(name) {
                let reason = format!("unknown name `{name}`: write secrets.NAME.FIELD");
                return Err(wrong(line, reason));
            }
        }
        let mut secrets = BTreeSet::new();
        for access in &self.accesses {
            let name = access.secret.parse::<SecretName>();
            secrets.insert(name.map_err(|error| wrong(*access.lines.start(), error.to_string()))?);
        }
        Ok(Reads {
            secrets: (!self.dynamic).then_some(secrets),
            accesses: self.accesses,
        })
    }

    fn statements(&mut self, statements: &[Stmt<'a>]) -> Walked {
        statements.iter().try_for_each(|stmt| self.statement(stmt))
    }

    fn statement(&mut self, stmt: &Stmt<'a>) -> Walked {
        match stmt {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => Ok(()),
            Stmt::ForLoop(each) => {
                self.assign(&each.target)?;
                self.expression(&each.iter)?;
                self.optional(each.filter_expr.as_ref())?;
                self.statements(&each.body)?;
                self.statements(&each.else_body)
            }
            Stmt::IfCond(cond) => {
                self.expression(&cond.expr)?;
                self.statements(&cond.true_body)?;
                self.statements(&cond.false_body)
            }
            Stmt::WithBlock(with) => {
                for (target, expr) in &with.assignments {
                    self.assign(target)?;
                    self.expression(expr)?;
                }
                self.statements(&with.body)
            }
            Stmt::Set(set) => {
                self.assign(&set.target)?;
                self.expression(&set.expr)
            }
            Stmt::SetBlock(set) => {
                self.assign(&set.target)?;
                self.optional(set.filter.as_ref())?;
                self.statements(&set.body)
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter)?;
                self.statements(&block.body)
            }
            Stmt::AutoEscape(block) => {
                let line = usize::from(block.span().start_line);
                Err(wrong(line, "`autoescape` is not supported; use a filter"))
            }
            Stmt::Do(stmt) => Self::call(&stmt.call),
        }
    }

    fn assign(&mut self, target: &Expr<'a>) -> Walked {
        match target {
            Expr::Var(var) if var.id == SECRETS || var.id == LOOP => Err(wrong(
                usize::from(var.span().start_line),
                format!("`{}` cannot be set; choose another name", var.id),
            )),
            Expr::Var(var) => {
                self.assigned.insert(var.id);
                Ok(())
            }
            Expr::List(list) => list.items.iter().try_for_each(|item| self.assign(item)),
            Expr::Tuple(tuple) => tuple.items.iter().try_for_each(|item| self.assign(item)),
            other => self.expression(other),
        }
    }

    fn expression(&mut self, expr: &Expr<'a>) -> Walked {
        if let Some((secret, field)) = named(expr) {
            let span = expr.span();
            self.accesses.push(Access {
                secret: secret.to_owned(),
                field: field.map(str::to_owned),
                lines: usize::from(span.start_line)..=usize::from(span.end_line),
            });
            return Ok(());
        }
        let line = usize::from(expr.span().start_line);
        match expr {
            Expr::Var(var) => {
                self.dynamic |= var.id == SECRETS;
                self.used.push((var.id, line));
                Ok(())
            }
            Expr::Const(_) => Ok(()),
            Expr::Slice(_) => Err(wrong(line, "templates do not cut values: no `[a:b]`")),
            Expr::UnaryOp(op) => self.expression(&op.expr),
            Expr::BinOp(op) => {
                // A text can be multiplied too, and the engine does it before there is any bound.
                if is_arithmetic(op.op) {
                    return Err(wrong(line, "templates do not compute; `~` joins texts"));
                }
                self.expression(&op.left)?;
                self.expression(&op.right)
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr)?;
                compare
                    .ops
                    .iter()
                    .try_for_each(|op| self.expression(&op.expr))
            }
            Expr::IfExpr(cond) => {
                self.expression(&cond.test_expr)?;
                self.expression(&cond.true_expr)?;
                // Without it the engine would give an empty text.
                let Some(other) = &cond.false_expr else {
                    return Err(wrong(line, "`if` lacks its `else` here"));
                };
                self.expression(other)
            }
            Expr::Filter(filter) => self.filter(filter, line),
            Expr::Test(test) => {
                if !TESTS.contains(&test.name) {
                    let reason =
                        format!("unknown test `{}`; there are {}", test.name, list(&TESTS));
                    return Err(wrong(line, reason));
                }
                self.expression(&test.expr)?;
                self.arguments(&test.args)
            }
            Expr::GetAttr(get) => self.expression(&get.expr),
            Expr::GetItem(get) => {
                self.expression(&get.expr)?;
                self.expression(&get.subscript_expr)
            }
            Expr::Call(call) => Self::call(call),
            Expr::List(list) => list.items.iter().try_for_each(|item| self.expression(item)),
            Expr::Tuple(tuple) => tuple
                .items
                .iter()
                .try_for_each(|item| self.expression(item)),
            Expr::Map(map) => map
                .keys
                .iter()
                .chain(&map.values)
                .try_for_each(|item| self.expression(item)),
        }
    }

    fn filter(&mut self, filter: &Filter<'a>, line: usize) -> Walked {
        if !NAMES.contains(&filter.name) {
            let reason = format!(
                "unknown filter `{}`; there are {}",
                filter.name,
                list(&NAMES)
            );
            return Err(wrong(line, reason));
        }
        self.optional(filter.expr.as_ref())?;
        self.arguments(&filter.args)
    }

    /// There is nothing to call but the loop's own methods, and with wrong arguments those panic.
    fn call(call: &Spanned<Call<'a>>) -> Walked {
        let reason = format!(
            "there are no functions or methods; there are filters: {}",
            list(&NAMES)
        );
        Err(wrong(usize::from(call.span().start_line), reason))
    }

    fn arguments(&mut self, arguments: &[CallArg<'a>]) -> Walked {
        arguments.iter().try_for_each(|argument| match argument {
            CallArg::Pos(expr)
            | CallArg::Kwarg(_, expr)
            | CallArg::PosSplat(expr)
            | CallArg::KwargSplat(expr) => self.expression(expr),
        })
    }

    fn optional(&mut self, expr: Option<&Expr<'a>>) -> Walked {
        expr.map_or(Ok(()), |expr| self.expression(expr))
    }
}

/// The secret, and the field, that an expression names outright.
fn named<'e>(expr: &'e Expr<'_>) -> Option<(&'e str, Option<&'e str>)> {
    let (inner, key) = step(expr)?;
    if is_secrets(inner) {
        return Some((key, None));
    }
    let (root, secret) = step(inner)?;
    is_secrets(root).then_some((secret, Some(key)))
}

/// `INNER.KEY` or `INNER["KEY"]`.
fn step<'e, 's>(expr: &'e Expr<'s>) -> Option<(&'e Expr<'s>, &'e str)> {
    match expr {
        Expr::GetAttr(get) => Some((&get.expr, get.name)),
        Expr::GetItem(get) => match &get.subscript_expr {
            Expr::Const(key) => Some((&get.expr, key.value.as_str()?)),
            _ => None,
        },
        _ => None,
    }
}

fn is_secrets(expr: &Expr<'_>) -> bool {
    matches!(expr, Expr::Var(var) if var.id == SECRETS)
}

fn is_arithmetic(op: BinOpKind) -> bool {
    use BinOpKind::{Div, FloorDiv, Mul, Pow, Rem, Sub};
    matches!(op, Sub | Mul | Div | FloorDiv | Rem | Pow)
}

fn wrong(line: usize, reason: impl Into<String>) -> TemplateError {
    TemplateError {
        line: Some(line),
        reason: reason.into(),
    }
}

fn list(names: &[&str]) -> String {
    format!("`{}`", names.join("`, `"))
}

const SECRETS: &str = "secrets";
const LOOP: &str = "loop";
const TESTS: [&str; 2] = ["defined", "undefined"];
/// Far more than people write into one tag.
const MAX_TOKENS: usize = 256;
const MAX_BRANCHES: usize = 64;
