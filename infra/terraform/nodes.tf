resource "aws_iam_role" "node" {
  name = "${var.name}-node"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"])
  role       = aws_iam_role.node.name
  policy_arn = "arn:aws:iam::aws:policy/${each.key}"
}

resource "aws_placement_group" "fabric" {
  name     = "${var.name}-fabric"
  strategy = "cluster"
}

resource "aws_launch_template" "pool" {
  for_each    = local.pools
  name_prefix = "${var.name}-${each.key}-"
  # The role of the machine is not for pods: they cannot reach its address (one hop), and have rights of their own.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size = 500
      volume_type = "gp3"
      encrypted   = true
    }
  }
  # The local NVMe of machines with GPUs becomes one disk, and pods' scratch space (emptyDir) lies on it.
  user_data = each.value.gpus == 0 ? null : base64encode(<<-EOT
    MIME-Version: 1.0
    Content-Type: multipart/mixed; boundary="part"

    --part
    Content-Type: application/node.eks.aws

    apiVersion: node.eks.aws/v1alpha1
    kind: NodeConfig
    spec:
      instance:
        localStorage:
          strategy: RAID0

    --part--
  EOT
  )
  vpc_security_group_ids = concat(
    [aws_eks_cluster.main.vpc_config[0].cluster_security_group_id],
    each.value.gpus > 0 ? [aws_security_group.fabric.id] : [],
  )
  dynamic "placement" {
    for_each = each.value.gpus > 0 ? [1] : []
    content {
      group_name = aws_placement_group.fabric.name
    }
  }
  dynamic "capacity_reservation_specification" {
    for_each = contains(keys(var.reservations), each.key) ? [var.reservations[each.key]] : []
    content {
      capacity_reservation_target {
        capacity_reservation_id = capacity_reservation_specification.value
      }
    }
  }
}

# Labels and taints are those of infra/kubernetes: `goku.dev/pool` by name, `goku.dev/spot` where a machine may be taken away,
# `nvidia.com/gpu` where nothing may stand that asks for no GPU.
resource "aws_eks_node_group" "pool" {
  for_each        = local.pools
  cluster_name    = aws_eks_cluster.main.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = each.value.gpus > 0 ? [aws_subnet.gpu.id] : aws_subnet.private[*].id
  instance_types  = [each.value.instance]
  ami_type        = each.value.gpus > 0 ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  labels          = { "goku.dev/pool" = each.key }
  launch_template {
    id      = aws_launch_template.pool[each.key].id
    version = aws_launch_template.pool[each.key].latest_version
  }
  scaling_config {
    min_size     = each.value.least
    desired_size = each.value.least
    max_size     = each.value.most
  }
  dynamic "taint" {
    for_each = each.value.spot ? [1] : []
    content {
      key    = "goku.dev/spot"
      value  = "true"
      effect = "NO_SCHEDULE"
    }
  }
  dynamic "taint" {
    for_each = each.value.gpus > 0 ? [1] : []
    content {
      key    = "nvidia.com/gpu"
      value  = "present"
      effect = "NO_SCHEDULE"
    }
  }
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # the autoscaler's
  }
  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.network]
}
