//! Enums whose variants have a stable name and a meaning, both of which users read: one row each, from
//! which the output and the manual page are made.

/// Defines such an enum. A row is a variant, its name in the output, and its meaning as the manual page
/// prints it.
macro_rules! codes {
    ($(#[$attribute:meta])* $code:ident: $($variant:ident $name:literal $meaning:literal;)*) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $code {
            $(#[doc = $meaning] $variant,)*
        }

        impl $code {
            /// Each code with its name and meaning, in the order of the manual.
            pub const ALL: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$variant, $name, $meaning)),*];

            /// Returns its name in the output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}
pub(crate) use codes;
