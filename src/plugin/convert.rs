//! Between the vocabulary of this layer and the messages of the protocol.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::path::{Path, Step};
use super::schema::{Attribute, Kind, Schema};
use super::wire::tfplugin6 as wire;

impl From<&Path> for wire::AttributePath {
    fn from(path: &Path) -> Self {
        use wire::attribute_path::step::Selector;
        let step = |step: &Step| wire::attribute_path::Step {
            selector: Some(match step {
                Step::Attribute(name) => Selector::AttributeName(name.clone()),
                Step::Key(key) => Selector::ElementKeyString(key.clone()),
                Step::Index(index) => Selector::ElementKeyInt(*index),
            }),
        };
        wire::AttributePath { steps: path.steps().iter().map(step).collect() }
    }
}

impl From<Diagnostic> for wire::Diagnostic {
    fn from(Diagnostic { severity, summary, detail, path }: Diagnostic) -> Self {
        let severity = match severity {
            Severity::Error => wire::diagnostic::Severity::Error,
            Severity::Warning => wire::diagnostic::Severity::Warning,
        };
        let attribute = (!path.steps().is_empty()).then(|| wire::AttributePath::from(&path));
        wire::Diagnostic { severity: severity.into(), summary, detail, attribute }
    }
}

impl From<Diagnostics> for Vec<wire::Diagnostic> {
    fn from(diagnostics: Diagnostics) -> Self {
        diagnostics.into_iter().map(wire::Diagnostic::from).collect()
    }
}

impl From<&Schema> for wire::Schema {
    fn from(schema: &Schema) -> Self {
        wire::Schema {
            version: schema.version,
            block: Some(wire::schema::Block {
                version: schema.version,
                attributes: schema.attributes.iter().map(wire::schema::Attribute::from).collect(),
                description: schema.description.clone(),
                description_kind: wire::StringKind::Markdown.into(),
                deprecated: false,
            }),
        }
    }
}

impl From<&Attribute> for wire::schema::Attribute {
    fn from(attribute: &Attribute) -> Self {
        use wire::schema::object::NestingMode;
        let nested = |attributes: &[Attribute], nesting: NestingMode| wire::schema::Object {
            attributes: attributes.iter().map(wire::schema::Attribute::from).collect(),
            nesting: nesting.into(),
        };
        let (r#type, nested_type) = match &attribute.kind {
            Kind::Plain(ty) => (ty.to_json().to_string().into_bytes(), None),
            Kind::Single(attributes) => (Vec::new(), Some(nested(attributes, NestingMode::Single))),
            Kind::Map(attributes) => (Vec::new(), Some(nested(attributes, NestingMode::Map))),
        };
        let description = match &attribute.deprecated {
            Some(message) => format!("{} **Deprecated:** {message}", attribute.description).trim_start().to_owned(),
            None => attribute.description.clone(),
        };
        wire::schema::Attribute {
            name: attribute.name.clone(),
            r#type,
            nested_type,
            description,
            description_kind: wire::StringKind::Markdown.into(),
            required: attribute.required,
            optional: attribute.optional,
            computed: attribute.computed,
            sensitive: attribute.sensitive,
            deprecated: attribute.deprecated.is_some(),
            write_only: attribute.write_only,
        }
    }
}
