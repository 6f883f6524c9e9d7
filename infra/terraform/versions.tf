# AWS, because the platform's storage speaks S3 and a pod gets its rights to a bucket without a key (EKS Pod Identity), machines
# of eight A100, H100 or H200 can be reserved there, and FSx for Lustre is a file system of many writers. Our choice.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 6.0"
    }
  }
  # Where the state lies is said at `terraform init -backend-config=...`: it names no secret, and is encrypted.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = var.name }
  }
}
