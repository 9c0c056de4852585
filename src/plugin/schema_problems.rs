//! Declarations that the core would refuse.

use super::msgpack;
use super::schema::{Attribute, Kind, Schema, Type};

/// Names that mean something else inside a `resource` block.
const RESERVED: [&str; 6] = ["connection", "count", "depends_on", "for_each", "lifecycle", "provisioner"];

impl Schema {
    /// What is wrong with the declarations, one sentence each; empty for a schema that the core accepts.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for attribute in &self.attributes {
            if RESERVED.contains(&attribute.name.as_str()) {
                problems.push(format!("`{}`: the name is reserved", attribute.name));
            }
        }
        inspect(&self.attributes, "", &mut problems);
        problems
    }
}

fn inspect(attributes: &[Attribute], prefix: &str, problems: &mut Vec<String>) {
    for (index, attribute) in attributes.iter().enumerate() {
        let path = format!("{prefix}{}", attribute.name);
        let mut problem = |text: &str| problems.push(format!("`{path}`: {text}"));
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if attribute.name.is_empty() || !attribute.name.bytes().all(valid) {
            problem("a name is made of lower-case letters, digits and underscores");
        }
        if attributes[..index].iter().any(|other| other.name == attribute.name) {
            problem("the name is taken");
        }
        if attribute.required == (attribute.optional || attribute.computed) {
            problem("it is exactly one of required, optional, computed, or optional and computed");
        }
        if attribute.write_only && attribute.computed {
            problem("what is write-only is not computed");
        }
        match &attribute.default {
            Some(default) if default.is_null() || msgpack::encode(default, &attribute.ty()).is_err() => {
                problem("the default is not of its type");
            }
            _ => {}
        }
        match &attribute.kind {
            Kind::Plain(ty) if dynamic_in_set(ty, false) => problem("a set holds nothing dynamic"),
            Kind::Plain(_) => {}
            Kind::Single(attributes) | Kind::Map(attributes) if attributes.is_empty() => {
                problem("a nested object has attributes");
            }
            Kind::Single(attributes) | Kind::Map(attributes) => {
                inspect(attributes, &format!("{path}."), problems);
            }
        }
    }
}

fn dynamic_in_set(ty: &Type, in_set: bool) -> bool {
    match ty {
        Type::Bool | Type::Number | Type::String => false,
        Type::Dynamic => in_set,
        Type::Set(element) => dynamic_in_set(element, true),
        Type::List(element) | Type::Map(element) => dynamic_in_set(element, in_set),
        Type::Tuple(elements) => elements.iter().any(|ty| dynamic_in_set(ty, in_set)),
        Type::Object(attributes) => attributes.values().any(|ty| dynamic_in_set(ty, in_set)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(attributes: Vec<Attribute>) -> Vec<String> {
        Schema::new(0, "", attributes).problems()
    }

    #[test]
    fn an_attribute_is_exactly_one_of_required_optional_and_computed() {
        assert!(
            problems(vec![
                Attribute::string("a").required(),
                Attribute::string("b").optional(),
                Attribute::string("c").computed(),
                Attribute::string("d").optional_computed(),
                Attribute::string("e").default("x"),
            ])
            .is_empty()
        );
        assert_eq!(problems(vec![Attribute::string("a")]).len(), 1);
        assert_eq!(problems(vec![Attribute::string("a").required().optional()]).len(), 1);
        assert_eq!(problems(vec![Attribute::single("n", vec![Attribute::string("a")]).optional()]).len(), 1);
    }

    #[test]
    fn a_set_holds_nothing_dynamic() {
        let set = Type::set(Type::list(Type::Dynamic));
        assert_eq!(problems(vec![Attribute::of("a", set).optional()]).len(), 1);
        assert!(problems(vec![Attribute::of("a", Type::Dynamic).optional()]).is_empty());
    }

    #[test]
    fn a_name_is_made_of_lower_case_letters_digits_and_underscores() {
        for name in ["", "Name", "a-b", "é"] {
            assert_eq!(problems(vec![Attribute::string(name).optional()]).len(), 1, "{name}");
        }
        assert_eq!(problems(vec![Attribute::string("count").optional()]).len(), 1);
    }

    #[test]
    fn a_default_has_the_type_of_its_attribute() {
        assert_eq!(problems(vec![Attribute::number("a").default("x")]).len(), 1);
    }
}
