resource "aws_s3_bucket" "main" {
  bucket_prefix = "${var.name}-"
}

# Nothing that was written is lost by a mistake: old versions stay for a month.
resource "aws_s3_bucket_versioning" "main" {
  bucket = aws_s3_bucket.main.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "main" {
  bucket = aws_s3_bucket.main.id
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 30
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_s3_bucket_public_access_block" "main" {
  bucket                  = aws_s3_bucket.main.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "main" {
  bucket = aws_s3_bucket.main.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.main.arn
    }
    bucket_key_enabled = true
  }
}

# The workspace, in the zone of the GPUs.
resource "aws_fsx_lustre_file_system" "workspace" {
  deployment_type             = "PERSISTENT_2"
  storage_capacity            = var.workspace_gibibytes
  per_unit_storage_throughput = 500
  subnet_ids                  = [aws_subnet.gpu.id]
  security_group_ids          = [aws_security_group.lustre.id]
  kms_key_id                  = aws_kms_key.main.arn
}

resource "aws_security_group" "lustre" {
  name_prefix = "${var.name}-lustre-"
  vpc_id      = aws_vpc.main.id
  ingress {
    description = "Lustre, from the network"
    from_port   = 988
    to_port     = 1023
    protocol    = "tcp"
    cidr_blocks = [var.network]
  }
  egress {
    from_port   = 988
    to_port     = 1023
    protocol    = "tcp"
    cidr_blocks = [var.network]
  }
}

resource "aws_db_subnet_group" "main" {
  name       = var.name
  subnet_ids = aws_subnet.private[*].id
}

resource "aws_security_group" "database" {
  name_prefix = "${var.name}-database-"
  vpc_id      = aws_vpc.main.id
  ingress {
    description = "Postgres, from the network; network policies say which pods"
    from_port   = 5432
    to_port     = 5432
    protocol    = "tcp"
    cidr_blocks = [var.network]
  }
}

# Prefect's and MLflow's. The password is made and kept by the cloud; no file of ours and no state of Terraform's holds it.
resource "aws_db_instance" "main" {
  identifier                   = var.name
  engine                       = "postgres"
  engine_version               = "17"
  instance_class               = "db.m7g.large"
  allocated_storage            = 100
  max_allocated_storage        = 1000
  storage_encrypted            = true
  kms_key_id                   = aws_kms_key.main.arn
  username                     = "goku"
  manage_master_user_password  = true
  publicly_accessible          = false
  multi_az                     = true
  db_subnet_group_name         = aws_db_subnet_group.main.name
  vpc_security_group_ids       = [aws_security_group.database.id]
  backup_retention_period      = 14
  deletion_protection          = true
  skip_final_snapshot          = false
  final_snapshot_identifier    = "${var.name}-last"
  performance_insights_enabled = true
}
