//! What the core asks of a schema: rules 1 to 4.

use anklume::plugin::wire::tfplugin6::schema::Attribute as Sent;
use anklume::plugin::{Attribute, Diagnostics, Provider, Resource, Schema, Type, Value};

use crate::caller::{Caller, listen};

/// A provider that is nothing but its configuration.
struct Declared(Vec<Attribute>);

impl Provider for Declared {
    type Session = ();

    fn schema(&self) -> Schema {
        Schema::new(0, "", self.0.clone())
    }

    fn configure(&self, _config: Value, _client_version: &str) -> Result<(), Diagnostics> {
        Ok(())
    }

    fn resources(&self) -> Vec<Box<dyn Resource<()>>> {
        Vec::new()
    }
}

/// The complaints about a schema.
async fn complaints(attribute: Attribute) -> Vec<String> {
    let caller = Caller::connect(&listen(Declared(vec![attribute]))).await;
    caller.schemas().await.diagnostics.into_iter().map(|diagnostic| diagnostic.detail).collect()
}

/// Every attribute that the toy sends, nested ones too.
async fn sent() -> Vec<Sent> {
    let schemas = Caller::toy().await.schemas().await;
    assert!(schemas.diagnostics.is_empty());
    let things = schemas.resource_schemas.values().chain(&schemas.provider);
    let mut left: Vec<Sent> = things.flat_map(|schema| schema.block.clone().unwrap().attributes).collect();
    let mut all = Vec::new();
    while let Some(attribute) = left.pop() {
        left.extend(attribute.nested_type.iter().flat_map(|nested| nested.attributes.clone()));
        all.push(attribute);
    }
    all
}

// Rule 1.

#[tokio::test]
async fn an_attribute_is_exactly_one_of_required_optional_computed_or_the_last_two() {
    for attribute in sent().await {
        assert_ne!(attribute.required, attribute.optional || attribute.computed, "{}", attribute.name);
    }
    for wrong in [Attribute::string("a"), Attribute::string("a").required().computed()] {
        assert!(complaints(wrong).await[0].contains("exactly one of required, optional, computed"));
    }
    assert!(complaints(Attribute::string("a").optional_computed()).await.is_empty());
}

// Rule 2.

#[tokio::test]
async fn an_attribute_has_either_a_type_or_a_nested_type() {
    let all = sent().await;
    for attribute in &all {
        assert_ne!(attribute.r#type.is_empty(), attribute.nested_type.is_none(), "{}", attribute.name);
    }
    assert!(all.iter().any(|attribute| attribute.nested_type.is_some()));
}

// Rule 3.

#[tokio::test]
async fn a_set_with_something_dynamic_inside_is_refused() {
    let set = Attribute::of("a", Type::set(Type::map(Type::Dynamic))).optional();
    assert!(complaints(set).await[0].contains("a set holds nothing dynamic"));
    assert!(complaints(Attribute::of("a", Type::set(Type::String)).optional()).await.is_empty());
}

// Rule 4.

#[tokio::test]
async fn a_name_of_anything_but_lower_case_letters_digits_and_underscores_is_refused() {
    for name in ["", "Name", "a-b", "a.b", "é"] {
        let nested = Attribute::single("n", vec![Attribute::string(name).optional()]).optional();
        for wrong in [Attribute::string(name).optional(), nested] {
            assert!(complaints(wrong).await[0].contains("a name is made of"), "{name}");
        }
    }
    assert!(complaints(Attribute::string("a_1").optional()).await.is_empty());
}
