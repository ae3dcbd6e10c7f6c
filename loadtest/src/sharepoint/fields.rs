//! The columns of task lists: names, GUIDs, types and schemas.

use serde_json::Value;

use super::shape::{NamedProperties, Node};

/// The language of a site. It determines the texts of choice columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Language {
    /// English (United States), LCID 1033.
    #[default]
    English,
    /// German (Germany), LCID 1031.
    German,
}

impl Language {
    /// Returns the number of the locale.
    pub(crate) fn lcid(self) -> u16 {
        match self {
            Self::English => 1033,
            Self::German => 1031,
        }
    }

    /// Returns the five status texts in canonical order.
    #[must_use]
    pub fn statuses(self) -> [&'static str; 5] {
        match self {
            Self::English => [
                "Not Started",
                "In Progress",
                "Completed",
                "Deferred",
                "Waiting on someone else",
            ],
            Self::German => [
                "Nicht begonnen",
                "In Bearbeitung",
                "Erledigt",
                "Zurückgestellt",
                "Wartet auf jemand anderen",
            ],
        }
    }

    /// Returns the three priorities, from high to low.
    #[must_use]
    pub fn priorities(self) -> [&'static str; 3] {
        match self {
            Self::English => ["(1) High", "(2) Normal", "(3) Low"],
            Self::German => ["(1) Hoch", "(2) Normal", "(3) Niedrig"],
        }
    }
}

/// The meaning of a column, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Title,
    Body,
    Start,
    Due,
    Status,
    Percent,
    Priority,
    AssignedTo,
    Completed,
    ActualWork,
    TotalWork,
    Checkmark,
    Id,
    Created,
    Modified,
    Author,
    Editor,
    ContentTypeId,
    Version,
    Guid,
    UniqueId,
    ObjectType,
    UiVersion,
    Attachments,
}

/// A column of one list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) column: Column,
    pub(crate) name: &'static str,
}

/// `OData` name of the version column; it differs from the internal name.
pub(crate) const UI_VERSION: &str = "OData__UIVersionString";

/// The properties of a list that determine its columns and texts.
#[derive(Debug, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "real lists combine these properties freely"
)]
pub(crate) struct Schema {
    pub(crate) template: u16,
    pub(crate) task: bool,
    pub(crate) renamed: bool,
    pub(crate) with_work: bool,
    pub(crate) with_completed: bool,
    pub(crate) multi_person: bool,
    pub(crate) mappings: bool,
    pub(crate) language: Language,
}

/// The HTML that a rich text column accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RichText {
    /// Any HTML, wrapped in `<div class="ExternalClass…">`.
    Full,
    /// Simple HTML, wrapped in `<div>`.
    Compatible,
    /// No HTML.
    Plain,
}

impl Schema {
    pub(crate) fn rich_text(&self) -> RichText {
        match self.template {
            171 => RichText::Full,
            107 | 150 => RichText::Compatible,
            _ => RichText::Plain,
        }
    }

    /// Returns all columns in the order of the `fields` collection.
    pub(crate) fn fields(&self) -> Vec<Field> {
        use Column as C;
        let field = |column, name| Field { column, name };
        let mut fields = vec![field(C::Title, "Title")];
        if self.task {
            fields.extend([
                field(C::Start, "StartDate"),
                field(C::Due, if self.renamed { "TaskDueDate" } else { "DueDate" }),
                field(C::AssignedTo, "AssignedTo"),
                field(C::Percent, "PercentComplete"),
                field(C::Body, "Body"),
                field(C::Priority, "Priority"),
                field(C::Status, if self.renamed { "TaskStatus" } else { "Status" }),
            ]);
            if self.template == 171 {
                fields.push(field(C::Checkmark, "Checkmark"));
            }
            if self.with_completed {
                fields.push(field(C::Completed, "DateCompleted"));
            }
            if self.with_work {
                fields.push(field(C::ActualWork, "ActualWork"));
                fields.push(field(C::TotalWork, "TotalWork"));
            }
        }
        fields.extend([
            field(C::Id, "ID"),
            field(C::ContentTypeId, "ContentTypeId"),
            field(C::Modified, "Modified"),
            field(C::Created, "Created"),
            field(C::Author, "Author"),
            field(C::Editor, "Editor"),
            field(C::Version, "owshiddenversion"),
            field(C::UiVersion, "_UIVersionString"),
            field(C::Attachments, "Attachments"),
            field(C::Guid, "GUID"),
            field(C::UniqueId, "UniqueId"),
            field(C::ObjectType, "FSObjType"),
        ]);
        fields
    }
}

impl Column {
    /// Returns the column's GUID. The task columns have the same GUIDs on every SharePoint.
    pub(crate) fn guid(self) -> &'static str {
        match self {
            Self::Title => "fa564e0f-0c70-4ab9-b863-0177e6ddd247",
            Self::Body => "7662cd2c-f069-4dba-9e35-082cf976e170",
            Self::Start => "64cd368d-2f95-4bfc-a1f9-8d4324ecb007",
            Self::Due => "cd21b4c2-6841-4f9e-a23a-738a65f99889",
            Self::Status => "c15b34c3-ce7d-490a-b133-3f4de8801b76",
            Self::Percent => "d2311440-1ed6-46ea-b46d-daa643dc3886",
            Self::Priority => "a8eb573e-9e11-481a-a8c9-1104a54b2fbd",
            Self::AssignedTo => "53101f38-dd2e-458c-b245-0c236cc13d1a",
            Self::Completed => "24bfa3c2-e6a0-4651-80e9-3db44bf52147",
            Self::ActualWork => "b0b3407e-1c33-40ed-a37c-2430b7a5d081",
            Self::TotalWork => "f3c4a259-19a2-44b8-ab3d-e9145d07d538",
            Self::Checkmark => "ebf1c037-47eb-4355-998d-47ce9f2cc047",
            Self::Id => "1d22ea11-1e32-424e-89ab-9fedbadb6ce1",
            Self::Created => "8c06beca-0777-48f7-91c7-6da68bc07b69",
            Self::Modified => "28cf69c5-fa48-462a-b5cd-27b6f9d2bd5f",
            Self::Author => "1df5e554-ec7e-46a6-901d-d85a3881cb18",
            Self::Editor => "d31655d1-1d5b-4511-95a1-7a09e9b75bf2",
            Self::ContentTypeId => "03e45e84-1992-4d42-9116-26f756012634",
            Self::Version => "d4e44a66-ee3a-4d02-88c9-4ec5ff3f4cd5",
            Self::Guid => "ae069f25-3ac2-4256-b9c3-15dbc15da0e0",
            Self::UniqueId => "4b7403de-8d94-43e8-9f0f-137a3e298126",
            Self::ObjectType => "30bb605f-5bae-48fe-b4e3-1f81d9772af9",
            Self::UiVersion => "dce8262a-3ae9-45aa-aab4-83bd75fb738a",
            Self::Attachments => "67df98f4-9dec-48ff-a553-29bece9c5bf4",
        }
    }

    pub(crate) fn read_only(self) -> bool {
        !matches!(
            self,
            Self::Title
                | Self::Body
                | Self::Start
                | Self::Due
                | Self::Status
                | Self::Percent
                | Self::Priority
                | Self::AssignedTo
                | Self::Completed
                | Self::ActualWork
                | Self::TotalWork
                | Self::ContentTypeId
        )
    }

    fn type_name(self, schema: &Schema) -> &'static str {
        match self {
            Self::Title | Self::UiVersion => "Text",
            Self::Body => "Note",
            Self::Start | Self::Due | Self::Completed | Self::Created | Self::Modified => "DateTime",
            Self::Status | Self::Priority => "Choice",
            Self::Percent | Self::ActualWork | Self::TotalWork => "Number",
            Self::AssignedTo if schema.multi_person => "UserMulti",
            Self::AssignedTo | Self::Author | Self::Editor => "User",
            Self::Checkmark => "Calculated",
            Self::Id => "Counter",
            Self::ContentTypeId => "ContentTypeId",
            Self::Version => "Integer",
            Self::Guid => "Guid",
            Self::UniqueId | Self::ObjectType => "Lookup",
            Self::Attachments => "Attachments",
        }
    }

    fn display_name(self, language: Language) -> &'static str {
        let german = language == Language::German;
        match self {
            Self::Title if german => "Aufgabenname",
            Self::Title => "Task Name",
            Self::Body if german => "Beschreibung",
            Self::Body => "Description",
            Self::Start if german => "Anfangsdatum",
            Self::Start => "Start Date",
            Self::Due if german => "Fälligkeitsdatum",
            Self::Due => "Due Date",
            Self::Status if german => "Aufgabenstatus",
            Self::Status => "Task Status",
            Self::Percent if german => "% abgeschlossen",
            Self::Percent => "% Complete",
            Self::Priority if german => "Priorität",
            Self::Priority => "Priority",
            Self::AssignedTo if german => "Zugewiesen an",
            Self::AssignedTo => "Assigned To",
            Self::Completed => "Date Completed",
            Self::ActualWork => "Actual Work",
            Self::TotalWork => "Total Work",
            Self::Checkmark => "Completed",
            Self::Id => "ID",
            Self::Created => "Created",
            Self::Modified => "Modified",
            Self::Author => "Created By",
            Self::Editor => "Modified By",
            Self::ContentTypeId => "Content Type ID",
            Self::Version => "owshiddenversion",
            Self::Guid => "GUID",
            Self::UniqueId => "Unique Id",
            Self::ObjectType => "Item Type",
            Self::UiVersion => "Version",
            Self::Attachments => "Attachments",
        }
    }
}

impl Field {
    /// Returns the choices of a choice column in their order.
    pub(crate) fn choices(&self, schema: &Schema) -> Option<Vec<&'static str>> {
        if self.column == Column::Status {
            Some(schema.language.statuses().to_vec())
        } else if self.column == Column::Priority {
            Some(schema.language.priorities().to_vec())
        } else {
            None
        }
    }

    fn date_only(&self) -> bool {
        matches!(self.column, Column::Start | Column::Due | Column::Completed)
    }

    /// Returns the attributes that only some columns have.
    fn own_attributes(&self, schema: &Schema) -> &'static str {
        match self.column {
            Column::Title => " Required=\"TRUE\" MaxLength=\"255\"",
            Column::Body => match schema.rich_text() {
                RichText::Full => " RichText=\"TRUE\" RichTextMode=\"FullHtml\" NumLines=\"6\"",
                RichText::Compatible => " RichText=\"TRUE\" RichTextMode=\"Compatible\" NumLines=\"6\"",
                RichText::Plain => " RichText=\"FALSE\" NumLines=\"6\"",
            },
            Column::AssignedTo if schema.multi_person => {
                " List=\"UserInfo\" ShowField=\"ImnName\" UserSelectionMode=\"PeopleOnly\" Mult=\"TRUE\""
            }
            Column::AssignedTo => " List=\"UserInfo\" ShowField=\"ImnName\" UserSelectionMode=\"PeopleOnly\"",
            Column::Percent => " Percentage=\"TRUE\" Min=\"0\" Max=\"1\"",
            Column::ActualWork | Column::TotalWork => " Min=\"0\" Decimals=\"0\"",
            Column::Start | Column::Due | Column::Completed => " Format=\"DateOnly\"",
            Column::Status
            | Column::Priority
            | Column::Checkmark
            | Column::Id
            | Column::Created
            | Column::Modified
            | Column::Author
            | Column::Editor
            | Column::ContentTypeId
            | Column::Version
            | Column::Guid
            | Column::UniqueId
            | Column::ObjectType
            | Column::UiVersion
            | Column::Attachments => "",
        }
    }

    /// Returns the column's schema as SharePoint writes it.
    pub(crate) fn schema_xml(&self, schema: &Schema, list: &str) -> String {
        let column = self.column;
        let head = format!(
            "<Field ID=\"{{{}}}\" Type=\"{}\" Name=\"{}\" StaticName=\"{}\" DisplayName=\"{}\" SourceID=\"{{{list}}}\"{}{}",
            column.guid(),
            column.type_name(schema),
            self.name,
            self.name,
            escape(column.display_name(schema.language)),
            self.own_attributes(schema),
            if column.read_only() {
                " ReadOnly=\"TRUE\""
            } else {
                ""
            },
        );
        let Some(choices) = self.choices(schema) else {
            return format!("{head} />");
        };
        let elements = choices
            .iter()
            .map(|choice| format!("<CHOICE>{}</CHOICE>", escape(choice)))
            .collect::<Vec<_>>()
            .concat();
        let mappings = if schema.mappings {
            let mappings = (1..)
                .zip(&choices)
                .map(|(number, choice)| format!("<MAPPING Value=\"{number}\">{}</MAPPING>", escape(choice)));
            format!("<MAPPINGS>{}</MAPPINGS>", mappings.collect::<Vec<_>>().concat())
        } else {
            String::new()
        };
        let default = usize::from(column == Column::Priority);
        let default = escape(choices.get(default).copied().unwrap_or_default());
        format!("{head}><CHOICES>{elements}</CHOICES>{mappings}<Default>{default}</Default></Field>")
    }

    /// Returns the column as a resource of `fields`.
    pub(crate) fn properties(&self, schema: &Schema, list: &str) -> (&'static str, NamedProperties) {
        let type_name = self.column.type_name(schema);
        let (kind, number) = match type_name {
            "Text" => ("SP.FieldText", 2),
            "Note" => ("SP.FieldMultiLineText", 3),
            "DateTime" => ("SP.FieldDateTime", 4),
            "Choice" => ("SP.FieldChoice", 6),
            "Number" => ("SP.FieldNumber", 9),
            "User" | "UserMulti" => ("SP.FieldUser", 20),
            "Calculated" => ("SP.FieldCalculated", 17),
            "Lookup" => ("SP.FieldLookup", 7),
            "Guid" => ("SP.FieldGuid", 14),
            "Integer" => ("SP.Field", 1),
            "Counter" => ("SP.Field", 5),
            "Attachments" => ("SP.Field", 19),
            _ => ("SP.Field", 25),
        };
        let mut properties: NamedProperties = vec![
            ("Id".into(), self.column.guid().into()),
            ("InternalName".into(), self.name.into()),
            ("StaticName".into(), self.name.into()),
            ("EntityPropertyName".into(), self.entity_name().into()),
            ("Title".into(), self.column.display_name(schema.language).into()),
            ("TypeAsString".into(), type_name.into()),
            ("FieldTypeKind".into(), number.into()),
            (
                "Hidden".into(),
                matches!(
                    self.column,
                    Column::Version | Column::UniqueId | Column::ObjectType
                )
                .into(),
            ),
            ("ReadOnlyField".into(), self.column.read_only().into()),
            ("Required".into(), (self.column == Column::Title).into()),
            ("SchemaXml".into(), self.schema_xml(schema, list).into()),
        ];
        match kind {
            "SP.FieldChoice" => {
                let choices = self
                    .choices(schema)
                    .unwrap_or_default()
                    .into_iter()
                    .map(Value::from)
                    .collect();
                properties.push(("Choices".into(), Node::Primitives("Edm.String", choices)));
            }
            "SP.FieldDateTime" => {
                properties.push(("DisplayFormat".into(), i32::from(!self.date_only()).into()));
            }
            "SP.FieldUser" => {
                properties.push(("AllowMultipleValues".into(), (type_name == "UserMulti").into()));
            }
            "SP.FieldMultiLineText" => {
                properties.push(("RichText".into(), (schema.rich_text() != RichText::Plain).into()));
            }
            "SP.FieldText" => properties.push(("MaxLength".into(), 255.into())),
            _ => {}
        }
        (kind, properties)
    }

    /// Returns the name of the column in the JSON of items.
    pub(crate) fn entity_name(&self) -> &'static str {
        if self.column == Column::UiVersion {
            UI_VERSION
        } else {
            self.name
        }
    }
}

/// Escapes text for XML.
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}
