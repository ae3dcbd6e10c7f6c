//! Stable codes with their texts.

/// Makes an enum of stable codes: each row has the code as people write it, what happened, and what to do. The enum has
/// `ALL`, `as_str`, `message` and `action`; further columns are the caller's.
#[macro_export]
macro_rules! codes {
    (
        $(#[$about:meta])*
        pub enum $name:ident {
            $($(#[$of_row:meta])* $variant:ident $text:literal $message:literal $action:literal;)*
        }
    ) => {
        $(#[$about])*
        pub enum $name {
            $(#[doc = $message] $(#[$of_row])* $variant,)*
        }

        impl $name {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The code as people write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What happened, in one plain sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// What to do.
            #[must_use]
            pub fn action(self) -> &'static str {
                match self { $(Self::$variant => $action,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}
