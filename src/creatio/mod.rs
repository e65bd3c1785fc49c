//! The client of Creatio: sign-in, OData, files, chat services and the package MaxChannel.
