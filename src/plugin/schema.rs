//! What a resource looks like, and how its attributes behave.

use std::collections::BTreeMap;

use super::value::Value;

/// The type of a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A truth value.
    Bool,
    /// A decimal number.
    Number,
    /// Text.
    String,
    /// Whatever the configuration says; sets may not hold it.
    Dynamic,
    /// Elements in order.
    List(Box<Type>),
    /// Elements without order or paths.
    Set(Box<Type>),
    /// Elements in order, each with its type; only inside a dynamic value.
    Tuple(Vec<Type>),
    /// Elements by key.
    Map(Box<Type>),
    /// Named members, each with its type.
    Object(BTreeMap<String, Type>),
}

impl Type {
    /// A list of `element`.
    pub fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    /// A set of `element`.
    pub fn set(element: Type) -> Type {
        Type::Set(Box::new(element))
    }

    /// A map of `element`.
    pub fn map(element: Type) -> Type {
        Type::Map(Box::new(element))
    }
}

/// What is wrong with a value that the operator wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Short and fixed.
    pub summary: String,
    /// Sentences: what, why, what to write instead.
    pub detail: String,
}

impl Problem {
    /// A problem with its summary and detail.
    pub fn new(summary: impl Into<String>, detail: impl Into<String>) -> Problem {
        Problem { summary: summary.into(), detail: detail.into() }
    }
}

/// The one spelling of a value that may be written in several; `None` for a value that cannot be read.
pub type Canonical = fn(&Value) -> Option<Value>;

/// A rule for a known value that is not null.
pub type Check = fn(&Value) -> Result<(), Problem>;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Plain(Type),
    Single(Vec<Attribute>),
    Map(Vec<Attribute>),
}

/// One attribute of a schema. Exactly one of required, optional, computed or both of the last two is declared.
#[derive(Clone, Debug)]
pub struct Attribute {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) optional: bool,
    pub(super) computed: bool,
    pub(super) description: String,
    pub(super) default: Option<Value>,
    pub(super) replace: bool,
    pub(super) sensitive: bool,
    pub(super) write_only: bool,
    pub(super) deprecated: Option<String>,
    pub(super) canonical: Option<Canonical>,
    pub(super) check: Option<Check>,
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.kind == other.kind
    }
}

impl Attribute {
    fn new(name: &str, kind: Kind) -> Attribute {
        Attribute {
            name: name.to_owned(),
            kind,
            required: false,
            optional: false,
            computed: false,
            description: String::new(),
            default: None,
            replace: false,
            sensitive: false,
            write_only: false,
            deprecated: None,
            canonical: None,
            check: None,
        }
    }

    /// An attribute of any type.
    pub fn of(name: &str, ty: Type) -> Attribute {
        Attribute::new(name, Kind::Plain(ty))
    }

    /// Text.
    pub fn string(name: &str) -> Attribute {
        Attribute::of(name, Type::String)
    }

    /// A truth value.
    pub fn bool(name: &str) -> Attribute {
        Attribute::of(name, Type::Bool)
    }

    /// A number.
    pub fn number(name: &str) -> Attribute {
        Attribute::of(name, Type::Number)
    }

    /// A list of `element`.
    pub fn list(name: &str, element: Type) -> Attribute {
        Attribute::of(name, Type::list(element))
    }

    /// A map of `element`.
    pub fn map(name: &str, element: Type) -> Attribute {
        Attribute::of(name, Type::map(element))
    }

    /// A nested object.
    pub fn single(name: &str, attributes: Vec<Attribute>) -> Attribute {
        Attribute::new(name, Kind::Single(attributes))
    }

    /// A map of nested objects.
    pub fn nested_map(name: &str, attributes: Vec<Attribute>) -> Attribute {
        Attribute::new(name, Kind::Map(attributes))
    }

    /// The configuration has to set it.
    #[must_use]
    pub fn required(mut self) -> Attribute {
        self.required = true;
        self
    }

    /// The configuration may set it; null otherwise.
    #[must_use]
    pub fn optional(mut self) -> Attribute {
        self.optional = true;
        self
    }

    /// The provider sets it.
    #[must_use]
    pub fn computed(mut self) -> Attribute {
        self.computed = true;
        self
    }

    /// The configuration may set it; the provider does otherwise.
    #[must_use]
    pub fn optional_computed(self) -> Attribute {
        self.optional().computed()
    }

    /// What the documentation says, in Markdown.
    #[must_use]
    pub fn describe(mut self, markdown: impl Into<String>) -> Attribute {
        self.description = markdown.into();
        self
    }

    /// The value where the configuration sets none; makes it optional and computed.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Attribute {
        self.default = Some(value.into());
        self.optional_computed()
    }

    /// A change of its value replaces the object.
    #[must_use]
    pub fn replace(mut self) -> Attribute {
        self.replace = true;
        self
    }

    /// Not shown.
    #[must_use]
    pub fn sensitive(mut self) -> Attribute {
        self.sensitive = true;
        self
    }

    /// Configured, never kept: null in every answer.
    #[must_use]
    pub fn write_only(mut self) -> Attribute {
        self.write_only = true;
        self
    }

    /// To be replaced by something else, which `message` names.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Attribute {
        self.deprecated = Some(message.into());
        self
    }

    /// Values with one canonical spelling mean the same: plan and read keep the prior spelling.
    #[must_use]
    pub fn canonical(mut self, canonical: Canonical) -> Attribute {
        self.canonical = Some(canonical);
        self
    }

    /// A rule, asked while validating for a value that is known throughout and not null.
    #[must_use]
    pub fn check(mut self, check: Check) -> Attribute {
        self.check = Some(check);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of its value.
    pub fn ty(&self) -> Type {
        match &self.kind {
            Kind::Plain(ty) => ty.clone(),
            Kind::Single(attributes) => object_type(attributes),
            Kind::Map(attributes) => Type::map(object_type(attributes)),
        }
    }
}

fn settings(attributes: &[Attribute], planned: &Value, prior: &Value) -> Value {
    let counted = attributes.iter().filter(|attribute| {
        (attribute.required || attribute.optional) && !attribute.sensitive && !attribute.write_only
    });
    let member = |attribute: &Attribute| {
        let name = &attribute.name;
        let value = if attribute.replace && !prior.is_null() { prior.get(name) } else { planned.get(name) };
        let value = match (&attribute.kind, value) {
            (Kind::Single(attributes), Value::Map(_)) => settings(attributes, value, prior.get(name)),
            (Kind::Map(attributes), Value::Map(elements)) => {
                let element = |(key, element): (&String, &Value)| match element {
                    Value::Map(_) => (key.clone(), settings(attributes, element, prior.get(name).get(key))),
                    other => (key.clone(), super::settle::known(other)),
                };
                Value::Map(elements.iter().map(element).collect())
            }
            (_, value) => {
                let canonical = attribute.canonical.filter(|_| !value.is_null() && !value.has_unknown());
                canonical.and_then(|form| form(value)).unwrap_or_else(|| super::settle::known(value))
            }
        };
        (name.clone(), value)
    };
    Value::Map(counted.map(member).collect())
}

pub(super) fn object_type(attributes: &[Attribute]) -> Type {
    Type::Object(attributes.iter().map(|attribute| (attribute.name.clone(), attribute.ty())).collect())
}

/// The attributes of a resource or of the provider, with the version of its state.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) version: i64,
    pub(super) description: String,
    pub(super) attributes: Vec<Attribute>,
}

impl Schema {
    /// A schema; `version` counts up when the form of the state changes.
    pub fn new(version: i64, description: impl Into<String>, attributes: Vec<Attribute>) -> Schema {
        Schema { version, description: description.into(), attributes }
    }

    /// The type of the whole object.
    pub fn ty(&self) -> Type {
        object_type(&self.attributes)
    }

    /// The planned values of the attributes that a configuration can set: sensitive and write-only ones left out, in their
    /// canonical spelling, null where unknown. In an update (`prior` is not null) an attribute whose change replaces the
    /// object has its prior value.
    #[must_use]
    pub fn settings(&self, planned: &Value, prior: &Value) -> Value {
        settings(&self.attributes, planned, prior)
    }

    /// The attributes at the top.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }
}
