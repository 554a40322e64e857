"""Tables: columns of numbers, dates and categories, with holes, from CSV or Parquet files."""
