pub mod meeting;
