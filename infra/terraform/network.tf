# No machine has a public address. Those with GPUs have no way out at all but to the bucket and to services of the cloud that
# have an address inside; the others go through a gateway.
resource "aws_vpc" "main" {
  cidr_block           = var.network
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = { Name = var.name }
}

resource "aws_subnet" "private" {
  count                   = 2
  vpc_id                  = aws_vpc.main.id
  availability_zone       = var.zones[count.index]
  cidr_block              = cidrsubnet(var.network, 3, count.index)
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-private-${count.index}" }
}

resource "aws_subnet" "gpu" {
  vpc_id                  = aws_vpc.main.id
  availability_zone       = var.zones[0]
  cidr_block              = cidrsubnet(var.network, 2, 2)
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-gpu" }
}

# The gateway's own, and nothing else's.
resource "aws_subnet" "gateway" {
  vpc_id                  = aws_vpc.main.id
  availability_zone       = var.zones[0]
  cidr_block              = cidrsubnet(var.network, 8, 255)
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-gateway" }
}

resource "aws_internet_gateway" "main" {
  vpc_id = aws_vpc.main.id
}

resource "aws_eip" "gateway" {
  domain = "vpc"
}

resource "aws_nat_gateway" "main" {
  allocation_id = aws_eip.gateway.id
  subnet_id     = aws_subnet.gateway.id
}

resource "aws_route_table" "gateway" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.main.id
  }
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.main.id
  route {
    cidr_block     = "0.0.0.0/0"
    nat_gateway_id = aws_nat_gateway.main.id
  }
}

resource "aws_route_table" "gpu" {
  vpc_id = aws_vpc.main.id
}

resource "aws_route_table_association" "gateway" {
  subnet_id      = aws_subnet.gateway.id
  route_table_id = aws_route_table.gateway.id
}

resource "aws_route_table_association" "private" {
  count          = 2
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private.id
}

resource "aws_route_table_association" "gpu" {
  subnet_id      = aws_subnet.gpu.id
  route_table_id = aws_route_table.gpu.id
}

resource "aws_vpc_endpoint" "bucket" {
  vpc_id            = aws_vpc.main.id
  vpc_endpoint_type = "Gateway"
  service_name      = "com.amazonaws.${var.region}.s3"
  route_table_ids   = [aws_route_table.private.id, aws_route_table.gpu.id]
}

# What a machine without a way out needs to join the cluster and to fetch its image.
resource "aws_vpc_endpoint" "cloud" {
  for_each            = toset(["ec2", "ecr.api", "ecr.dkr", "eks", "eks-auth", "sts", "logs"])
  vpc_id              = aws_vpc.main.id
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  subnet_ids          = [aws_subnet.gpu.id]
  security_group_ids  = [aws_security_group.inside.id]
  private_dns_enabled = true
}

resource "aws_security_group" "inside" {
  name_prefix = "${var.name}-inside-"
  vpc_id      = aws_vpc.main.id
  ingress {
    description = "HTTPS from the network"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = [var.network]
  }
}

# Machines with GPUs may say everything to each other. EFA would want this group too, but no machine here has an EFA device yet:
# NCCL speaks TCP.
resource "aws_security_group" "fabric" {
  name_prefix = "${var.name}-fabric-"
  vpc_id      = aws_vpc.main.id
  ingress {
    from_port = 0
    to_port   = 0
    protocol  = "-1"
    self      = true
  }
  egress {
    from_port = 0
    to_port   = 0
    protocol  = "-1"
    self      = true
  }
}
