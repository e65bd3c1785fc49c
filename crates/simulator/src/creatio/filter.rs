//! `$filter` and `$orderby`: a parser and an evaluator for the subset that works on every site
//! (Creatio API reference, 2.1).
//!
//! Owns: `eq ne gt ge lt le and or not`, parentheses, `contains startswith endswith`, unquoted
//! Guids and times, quoted texts, paths over lookups. Types must agree, as on a real site. Must not
//! know HTTP.

use std::cmp::Ordering;

use serde_json::{Value, json};
use uuid::Uuid;

use super::Dialect;
use super::schema::{Column, Entity, Kind};
use super::store::{self, Db, Row};

/// Why an expression is refused, in the words of the site.
pub(super) type Refused = String;

#[derive(Clone, Debug, PartialEq)]
enum Expr {
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Compare(Path, Op, Value),
    Text(TextOp, Path, String),
    In(Path, Vec<Value>),
    Flag(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextOp {
    Contains,
    StartsWith,
    EndsWith,
}

/// Lookup columns to follow, then the column itself.
#[derive(Clone, Debug)]
pub(super) struct Path {
    steps: Vec<(&'static Column, &'static Entity)>,
    column: &'static Column,
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.column.name == other.column.name && self.steps.len() == other.steps.len()
    }
}

impl Path {
    fn value(&self, db: &Db, row: &Row) -> Value {
        let mut current = row;
        for (column, target) in &self.steps {
            let Some(next) = store::guid(current, column.name).and_then(|id| db.row(target.name, id)) else {
                return Value::Null;
            };
            current = next;
        }
        current.get(self.column.name).cloned().unwrap_or(Value::Null)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Dialects {
    pub dialect: Dialect,
    pub lookup_columns: bool,
    pub in_operator: bool,
}

/// A parsed filter.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    expr: Expr,
    dialect: Dialect,
}

impl Filter {
    pub fn parse(entity: &'static Entity, text: &str, dialects: Dialects) -> Result<Self, Refused> {
        let tokens = tokens(text)?;
        let mut parser = Parser { entity, tokens: &tokens, at: 0, dialects };
        let expr = parser.or()?;
        if parser.at < tokens.len() {
            return Err(format!("Syntax error at position {} in '{text}'.", parser.at));
        }
        Ok(Self { expr, dialect: dialects.dialect })
    }

    pub fn matches(&self, db: &Db, row: &Row) -> bool {
        self.holds(&self.expr, db, row)
    }

    fn holds(&self, expr: &Expr, db: &Db, row: &Row) -> bool {
        match expr {
            Expr::And(left, right) => self.holds(left, db, row) && self.holds(right, db, row),
            Expr::Or(left, right) => self.holds(left, db, row) || self.holds(right, db, row),
            Expr::Not(inner) => !self.holds(inner, db, row),
            Expr::Compare(path, op, literal) => {
                let order =
                    self.order(&filled(path.column, path.value(db, row)), &filled(path.column, literal.clone()));
                match op {
                    Op::Eq => order == Ordering::Equal,
                    Op::Ne => order != Ordering::Equal,
                    Op::Gt => order == Ordering::Greater,
                    Op::Ge => order != Ordering::Less,
                    Op::Lt => order == Ordering::Less,
                    Op::Le => order != Ordering::Greater,
                }
            }
            Expr::In(path, values) => {
                let own = filled(path.column, path.value(db, row));
                values.iter().any(|value| self.order(&own, &filled(path.column, value.clone())) == Ordering::Equal)
            }
            Expr::Text(op, path, part) => {
                let value = path.value(db, row);
                let (own, part) = (self.fold(value.as_str().unwrap_or("")), self.fold(part));
                match op {
                    TextOp::Contains => own.contains(&part),
                    TextOp::StartsWith => own.starts_with(&part),
                    TextOp::EndsWith => own.ends_with(&part),
                }
            }
            Expr::Flag(path) => path.value(db, row).as_bool().unwrap_or(false),
        }
    }

    fn fold(&self, text: &str) -> String {
        fold(text, self.dialect)
    }

    fn order(&self, left: &Value, right: &Value) -> Ordering {
        order(left, right, self.dialect)
    }
}

/// Some databases compare texts without case.
fn fold(text: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::PostgreSql => text.to_owned(),
        Dialect::SqlServer => text.to_lowercase(),
    }
}

/// An empty value as the zero of its type.
fn filled(column: &Column, value: Value) -> Value {
    if !value.is_null() {
        return value;
    }
    match column.kind {
        Kind::Guid | Kind::Lookup(_) => json!(Uuid::nil()),
        Kind::Text(_) => json!(""),
        Kind::Int => json!(0),
        Kind::Bool => json!(false),
        Kind::Time => json!(i64::MIN),
    }
}

fn order(left: &Value, right: &Value, dialect: Dialect) -> Ordering {
    match (left, right) {
        (Value::String(left), Value::String(right)) => fold(left, dialect).cmp(&fold(right, dialect)),
        (Value::Number(left), Value::Number(right)) => left.as_i64().cmp(&right.as_i64()),
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        _ => Ordering::Less,
    }
}

/// A parsed `$orderby`.
pub(super) fn order_by(entity: &'static Entity, text: &str, dialects: Dialects) -> Result<Vec<(Path, bool)>, Refused> {
    text.split(',')
        .map(|part| {
            let mut words = part.split_whitespace();
            let name = words.next().ok_or_else(|| "Syntax error in '$orderby'.".to_owned())?;
            let descending = match words.next() {
                None | Some("asc") => false,
                Some("desc") => true,
                Some(other) => return Err(format!("Syntax error at '{other}' in '$orderby'.")),
            };
            Ok((path(entity, name, dialects)?, descending))
        })
        .collect()
}

/// Compares two rows by a parsed `$orderby`.
pub(super) fn compare(db: &Db, keys: &[(Path, bool)], left: &Row, right: &Row, dialect: Dialect) -> Ordering {
    for (path, descending) in keys {
        let one = filled(path.column, path.value(db, left));
        let other = filled(path.column, path.value(db, right));
        let found = order(&one, &other, dialect);
        let found = if *descending { found.reverse() } else { found };
        if found != Ordering::Equal {
            return found;
        }
    }
    Ordering::Equal
}

pub(super) fn no_property(entity: &Entity, name: &str) -> Refused {
    format!("Could not find a property named '{name}' on type 'Terrasoft.Configuration.OData.{}'.", entity.name)
}

fn path(entity: &'static Entity, text: &str, dialects: Dialects) -> Result<Path, Refused> {
    let mut parts: Vec<&str> = text.split('/').collect();
    let last = parts.pop().unwrap_or("");
    let mut current = entity;
    let mut steps = Vec::new();
    for part in parts {
        let (column, target) = current.lookup(part).ok_or_else(|| no_property(current, part))?;
        steps.push((column, target));
        current = target;
    }
    let column = current.column(last).ok_or_else(|| no_property(current, last))?;
    if matches!(column.kind, Kind::Lookup(_)) && !dialects.lookup_columns {
        return Err(no_property(current, last));
    }
    // `Contact/Id` is the column itself: a join would hide rows of a missing target.
    if last == "Id"
        && let Some((lookup, _)) = steps.pop()
    {
        return Ok(Path { steps, column: lookup });
    }
    Ok(Path { steps, column })
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Open,
    Close,
    Comma,
}

fn tokens(text: &str) -> Result<Vec<Token>, Refused> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&next) = chars.peek() {
        match next {
            ' ' => {
                chars.next();
            }
            '(' | ')' | ',' => {
                chars.next();
                found.push(match next {
                    '(' => Token::Open,
                    ')' => Token::Close,
                    _ => Token::Comma,
                });
            }
            '\'' => {
                chars.next();
                let mut literal = String::new();
                loop {
                    match chars.next() {
                        Some('\'') if chars.peek() == Some(&'\'') => {
                            chars.next();
                            literal.push('\'');
                        }
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                        None => return Err(format!("There is an unterminated literal in '{text}'.")),
                    }
                }
                found.push(Token::Text(literal));
            }
            _ => {
                let mut word = String::new();
                while let Some(&next) = chars.peek() {
                    if matches!(next, ' ' | '(' | ')' | ',' | '\'') {
                        break;
                    }
                    word.push(next);
                    chars.next();
                }
                found.push(Token::Word(word));
            }
        }
    }
    Ok(found)
}

struct Parser<'a> {
    entity: &'static Entity,
    tokens: &'a [Token],
    at: usize,
    dialects: Dialects,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<&Token> {
        let token = self.tokens.get(self.at);
        self.at += 1;
        token
    }

    fn word(&mut self, wanted: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word == wanted);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), Refused> {
        if self.next() == Some(wanted) {
            return Ok(());
        }
        Err(format!("Syntax error at token {} in '$filter'.", self.at))
    }

    fn or(&mut self) -> Result<Expr, Refused> {
        let mut left = self.and()?;
        while self.word("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, Refused> {
        let mut left = self.not()?;
        while self.word("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, Refused> {
        if self.word("not") {
            return Ok(Expr::Not(Box::new(self.not()?)));
        }
        self.single()
    }

    fn single(&mut self) -> Result<Expr, Refused> {
        let syntax = || "Syntax error in '$filter'.".to_owned();
        match self.next().cloned() {
            Some(Token::Open) => {
                let inner = self.or()?;
                self.expect(&Token::Close)?;
                Ok(inner)
            }
            Some(Token::Word(word)) => {
                let text = match word.as_str() {
                    "contains" => Some(TextOp::Contains),
                    "startswith" => Some(TextOp::StartsWith),
                    "endswith" => Some(TextOp::EndsWith),
                    _ => None,
                };
                if let Some(op) = text
                    && self.tokens.get(self.at) == Some(&Token::Open)
                {
                    return self.text(op);
                }
                if self.tokens.get(self.at) == Some(&Token::Open) {
                    return Err(format!("An unknown function with name '{word}' was found."));
                }
                let path = path(self.entity, &word, self.dialects)?;
                if self.dialects.in_operator && self.word("in") {
                    return self.list(path);
                }
                let op = match self.tokens.get(self.at) {
                    Some(Token::Word(op)) => match op.as_str() {
                        "eq" => Op::Eq,
                        "ne" => Op::Ne,
                        "gt" => Op::Gt,
                        "ge" => Op::Ge,
                        "lt" => Op::Lt,
                        "le" => Op::Le,
                        "and" | "or" if path.column.kind == Kind::Bool => return Ok(Expr::Flag(path)),
                        _ => return Err(syntax()),
                    },
                    None | Some(Token::Close) if path.column.kind == Kind::Bool => return Ok(Expr::Flag(path)),
                    _ => return Err(syntax()),
                };
                self.at += 1;
                let literal = self.next().cloned().ok_or_else(syntax)?;
                let value = literal_of(&path, &literal)?;
                Ok(Expr::Compare(path, op, value))
            }
            _ => Err(syntax()),
        }
    }

    fn text(&mut self, op: TextOp) -> Result<Expr, Refused> {
        self.expect(&Token::Open)?;
        let (Some(Token::Word(name)), true) = (self.next().cloned(), self.next() == Some(&Token::Comma)) else {
            return Err("Syntax error in a function of '$filter'.".to_owned());
        };
        let path = path(self.entity, &name, self.dialects)?;
        let Some(Token::Text(part)) = self.next().cloned() else {
            return Err("A text function takes a quoted text.".to_owned());
        };
        self.expect(&Token::Close)?;
        if !matches!(path.column.kind, Kind::Text(_)) {
            return Err(incompatible(&path));
        }
        Ok(Expr::Text(op, path, part))
    }

    fn list(&mut self, path: Path) -> Result<Expr, Refused> {
        self.expect(&Token::Open)?;
        let mut values = Vec::new();
        loop {
            let literal = self.next().cloned().ok_or_else(|| "Syntax error in '$filter'.".to_owned())?;
            values.push(literal_of(&path, &literal)?);
            match self.next() {
                Some(Token::Comma) => {}
                Some(Token::Close) => return Ok(Expr::In(path, values)),
                _ => return Err("Syntax error in '$filter'.".to_owned()),
            }
        }
    }
}

fn incompatible(path: &Path) -> Refused {
    let kind = match path.column.kind {
        Kind::Guid | Kind::Lookup(_) => "Edm.Guid",
        Kind::Text(_) => "Edm.String",
        Kind::Int => "Edm.Int32",
        Kind::Bool => "Edm.Boolean",
        Kind::Time => "Edm.DateTimeOffset",
    };
    format!(
        "A binary operator with incompatible types was detected. Found operand type '{kind}' for '{}'.",
        path.column.name
    )
}

/// The literal as a stored value; its type must be that of the column.
fn literal_of(path: &Path, token: &Token) -> Result<Value, Refused> {
    let wrong = || incompatible(path);
    match (path.column.kind, token) {
        (_, Token::Word(word)) if word == "null" => Ok(Value::Null),
        (Kind::Text(_), Token::Text(text)) => Ok(json!(text)),
        (Kind::Guid | Kind::Lookup(_), Token::Word(word)) => {
            let hyphenated = word.len() == 36;
            Uuid::try_parse(word).ok().filter(|_| hyphenated).map(|id| json!(id)).ok_or_else(wrong)
        }
        (Kind::Int, Token::Word(word)) => word.parse::<i64>().map(|number| json!(number)).map_err(|_| wrong()),
        (Kind::Bool, Token::Word(word)) => word.parse::<bool>().map(|flag| json!(flag)).map_err(|_| wrong()),
        (Kind::Time, Token::Word(word)) => {
            word.parse::<jiff::Timestamp>().map(|at| json!(at.as_microsecond())).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}
