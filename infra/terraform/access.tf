# What each account of infra/kubernetes may do with the bucket. Old checkpoints are deleted by whoever writes them; what was
# deleted or overwritten stays for a month (storage.tf), and no account reaches it.
locals {
  rights = {
    goku-trainer = { read = ["*"], write = ["checkpoints/*", "models/*"], delete = ["checkpoints/*"] }
    goku-curator = { read = ["*"], write = ["data/*"], delete = [] }
    goku-judge   = { read = ["models/*", "prompts/*"], write = ["reports/*"], delete = [] }
    goku-server  = { read = ["mlflow/*"], write = ["mlflow/*"], delete = [] }
    goku-flow    = { read = ["*"], write = ["data/*", "models/*", "reports/*", "ledger/*"], delete = [] }
  }
}

resource "aws_iam_role" "pod" {
  for_each = local.rights
  name     = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "pods.eks.amazonaws.com" }
      Action    = ["sts:AssumeRole", "sts:TagSession"]
    }]
  })
}

resource "aws_iam_role_policy" "pod" {
  for_each = local.rights
  role     = aws_iam_role.pod[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        { Effect = "Allow", Action = ["s3:ListBucket"], Resource = [aws_s3_bucket.main.arn] },
        { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.main.arn] },
      ],
      [
        for actions, prefixes in {
          "s3:GetObject"                         = each.value.read
          "s3:PutObject,s3:AbortMultipartUpload" = each.value.write
          "s3:DeleteObject"                      = each.value.delete
        } :
        {
          Effect   = "Allow"
          Action   = split(",", actions)
          Resource = [for prefix in prefixes : "${aws_s3_bucket.main.arn}/${prefix}"]
        } if length(prefixes) > 0
      ],
    )
  })
}

resource "aws_eks_pod_identity_association" "pod" {
  for_each        = local.rights
  cluster_name    = aws_eks_cluster.main.name
  namespace       = "goku"
  service_account = each.key
  role_arn        = aws_iam_role.pod[each.key].arn
}

output "bucket" {
  value = aws_s3_bucket.main.bucket
}

output "workspace" {
  description = "File system and mount name, for the storage class goku-shared"
  value       = { id = aws_fsx_lustre_file_system.workspace.id, mount = aws_fsx_lustre_file_system.workspace.mount_name }
}

output "database" {
  description = "Where it is, and the secret with its password"
  value       = { address = aws_db_instance.main.address, secret = aws_db_instance.main.master_user_secret[0].secret_arn }
}
